"""The README and the licence note of a bundle, made for its model."""

from __future__ import annotations

from gsp_deploy.artifact import ExportManifest
from gsp_deploy.artifact.bundle_manifest import BundledArtifact, BundleManifest
from gsp_deploy.artifact.engine_manifest import EngineManifest

_RUNTIMES = {
    "onnxruntime": "ONNX Runtime",
    "tensorrt": "TensorRT",
    "tensorrt-rtx": "TensorRT for RTX",
}

_PYTHON = """\
import numpy as np

from gsp_deploy.bundle import open_bundle
from gsp_deploy.images.preprocessing import load_image

with open_bundle(".") as session:
    images = [load_image("golden/photograph.png", session.info.preprocessing)]
    embeddings = session.embed(np.stack(images))
print(embeddings.shape)
"""

_CPP = """\
#include <cstdio>
#include <gsp/embedder.hpp>

int main() {
  const auto embedder = gsp::Embedder::open(".");
  std::vector<float> embeddings;
  embedder.embed({gsp::decode_image("golden/photograph.png")}, embeddings);
  std::printf("%zu values\\n", embeddings.size());
}
"""

_CMAKE = """\
cmake_minimum_required(VERSION 3.22)
project(embed LANGUAGES CXX)
find_package(gsp_runtime 0.1 REQUIRED)
add_executable(embed embed.cpp)
target_link_libraries(embed PRIVATE gsp::gsp_runtime)
"""


def readme_text(
    manifest: BundleManifest,
    export: ExportManifest,
    engine: EngineManifest | None,
    golden_source: str,
) -> str:
    """Return the README in Markdown."""
    spec = manifest.preprocessing
    sections = [
        f"# {manifest.model}, {manifest.embedding_dim}-D embeddings",
        _summary(manifest, export),
        "| file | runs on | precision | input |\n|---|---|---|---|\n"
        + "\n".join(_row(artifact) for artifact in manifest.artifacts),
        _engine_note(engine),
        "## Images\n"
        f"8-bit RGB, upright, {_resize_words(manifest)} to {spec.width} x {spec.height}, then "
        f"`(pixel / 255 - mean) / std` with mean {list(spec.mean)} and std {list(spec.std)}"
        f"{' inside the graph' if export.includes_preprocessing else ''}. Both libraries below do "
        "all of it.",
        "## Check it on the target\n```console\n$ gsp-deploy verify .\n"
        "$ embed_images . --selftest          # the C++ library's\n```\n"
        "Hashes, versions, device, pre-processing, and the embeddings of "
        f"{golden_source} in `golden/`. Exit code 0 when all fits, 3 when something does not, 4 "
        "when this machine lacks what the model needs.",
        f"## Python\n`pip install 'gsp-deploy[{_extra(manifest)}]'`, then, run from this folder:\n"
        f"```python\n{_PYTHON}```",
        "Keep your own files out of this folder: a bundle refuses to run with a file that it does "
        "not know.",
        "## C++\nWith `gsp_runtime` installed (`plugins/runtime` of gsp-deploy), `embed.cpp`, to "
        "be run from here as well:\n"
        f"```cpp\n{_CPP}```\nand `CMakeLists.txt`:\n```cmake\n{_CMAKE}```",
        "## Licence\nSee [LICENSE](LICENSE).",
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def licence_text(export: ExportManifest) -> str:
    """Return what the model tells of its own licence; it says so where that is nothing."""
    told = export.provenance
    lines = [f"The weights of this {export.model.backbone} model"]
    if told.get("license"):
        lines[0] += f" are licensed under {told['license']} (SPDX identifier)."
    else:
        lines[0] += " came without a licence. Ask whoever trained them before you pass them on."
    lines += [f"{word}: {told[word]}" for word in ("dataset", "command", "notes") if told.get(word)]
    return "\n".join(lines) + "\n"


def _summary(manifest: BundleManifest, export: ExportManifest) -> str:
    text = (
        f"Packaged by gsp-deploy {manifest.packaged_by}. Images in, "
        f"{manifest.embedding_dim} float32 values each out; compare them by their cosine."
    )
    proof = export.certificate
    if proof is not None:
        text += (
            f" The pooling's solver: {proof.steps_in_words}. "
            f"Guarantee: {proof.guarantee_in_words}. Measured: {proof.measured_in_words}."
        )
    return text


def _row(artifact: BundledArtifact) -> str:
    shape = " x ".join(str(size) for size in artifact.input.shape)
    runs_on = _RUNTIMES[artifact.runtime]
    if artifact.tensorrt is not None:
        runs_on += f" {artifact.tensorrt}, {artifact.platform}, compute capability " + ", ".join(
            artifact.compute_capabilities
        )
    return (
        f"| `{artifact.file}` | {runs_on} | {artifact.precision} | {artifact.input.dtype} {shape} |"
    )


def _engine_note(engine: EngineManifest | None) -> str:
    if engine is None:
        return ""
    return (
        "The engine runs on that TensorRT and GPU alone. Elsewhere opening it fails and says why, "
        "unless falling back to the ONNX model is allowed: `--allow-fallback`, "
        "`BundleOptions(allow_fallback=True)`, `Options::allow_fallback`."
    )


def _resize_words(manifest: BundleManifest) -> str:
    spec = manifest.preprocessing
    edges = "not antialiased" if spec.pipeline == "opencv" else "antialiased"
    how = f"({spec.interpolation}, {edges})"
    if spec.resize == "stretch":
        return f"stretched {how}"
    return (
        f"resized {how} and centre-cropped at {spec.crop_ratio:g}, "
        f"rounded as the pipeline `{spec.pipeline}` does"
    )


def _extra(manifest: BundleManifest) -> str:
    return "cpu" if manifest.artifacts[0].runtime == "onnxruntime" else "gpu"

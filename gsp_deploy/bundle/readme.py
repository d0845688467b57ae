"""Write a bundle's README and licence note from its model's manifests."""

from __future__ import annotations

from gsp_deploy.artifact import ExportManifest
from gsp_deploy.artifact.bundle_manifest import BundledArtifact, BundleManifest
from gsp_deploy.artifact.engine_manifest import EngineManifest

_RUNTIMES = {
    "onnxruntime": "ONNX Runtime",
    "openvino": "OpenVINO",
    "tensorrt": "TensorRT",
    "tensorrt-rtx": "TensorRT for RTX",
}
_EXTRAS = {"onnxruntime": "cpu", "openvino": "openvino"}

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
        f"{' inside the graph' if export.includes_preprocessing else ''}. Both libraries below "
        "prepare images in this way.",
        "## Check it on the target\n```console\n$ gsp-deploy verify .\n"
        "$ embed_images . --selftest          # the C++ library's\n```\n"
        "Hashes, versions, device, pre-processing, and the embeddings of "
        f"{golden_source} in `golden/`. The exit code is 0 if everything fits, 3 if something does "
        "not, and 4 if this machine lacks something that the model needs.",
        f"## Python\n`pip install 'gsp-deploy[{_extra(manifest)}]'`, then run from this folder:\n"
        f"```python\n{_PYTHON}```",
        "Keep your own files out of this folder: a bundle does not open if it contains a file that "
        "is not listed in SHA256SUMS.",
        "## C++\nInstall `gsp_runtime` (`plugins/runtime` of gsp-deploy). Then build this "
        "`embed.cpp` and run it from this folder:\n"
        f"```cpp\n{_CPP}```\nwith this `CMakeLists.txt`:\n```cmake\n{_CMAKE}```",
        "## Licence\nSee [LICENSE](LICENSE).",
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def licence_text(export: ExportManifest) -> str:
    """Return the licence note from the model's provenance, or a warning if it names none."""
    origin = export.provenance
    lines = [f"The weights of this {export.model.backbone} model"]
    if origin.get("license"):
        lines[0] += f" are licensed under {origin['license']} (SPDX identifier)."
    else:
        lines[0] += " have no stated licence. Ask the person who trained them before you share it."
    entries = ("dataset", "command", "notes")
    lines += [f"{entry}: {origin[entry]}" for entry in entries if origin.get(entry)]
    return "\n".join(lines) + "\n"


def _summary(manifest: BundleManifest, export: ExportManifest) -> str:
    text = (
        f"Packaged by gsp-deploy {manifest.packaged_by}. The model turns each image into "
        f"{manifest.embedding_dim} float32 values; compare them by their cosine."
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
    versions = "with this TensorRT version"
    if engine.lean:
        versions = (
            "with this TensorRT version, or with its lean runtime of this version or a later one "
            "(`pip install 'gsp-deploy[lean]'`),"
        )
    elif engine.version_compatible:
        versions = (
            "with this TensorRT version or a later one, or with its lean or dispatch runtime, if "
            "you trust its source (`--allow-host-code`),"
        )
    gpu = "this kind of GPU" if engine.hardware_compatibility == "none" else "the GPUs above"
    return (
        f"The engine runs only {versions} and on {gpu}. Elsewhere opening it fails with "
        "the reason, unless you allow fallback to the ONNX model: `--allow-fallback`, "
        "`BundleOptions(allow_fallback=True)`, `Options::allow_fallback`."
    )


def _resize_words(manifest: BundleManifest) -> str:
    spec = manifest.preprocessing
    edges = "not antialiased" if spec.pipeline == "opencv" else "antialiased"
    how = f"({spec.interpolation}, {edges})"
    if not spec.crops:
        return f"stretched {how}"
    verb = "stretched" if spec.resize == "stretch" else "resized"
    return (
        f"{verb} {how} and centre-cropped at {spec.crop_ratio:g}, "
        f"rounded as the pipeline `{spec.pipeline}` does"
    )


def _extra(manifest: BundleManifest) -> str:
    first = manifest.artifacts[0]
    return "lean" if first.lean else _EXTRAS.get(first.runtime, "gpu")

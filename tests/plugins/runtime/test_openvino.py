"""The OpenVINO backend: against Python's session and the API's headers, and what may be missing."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from gsp_deploy.bundle import open_bundle
from gsp_deploy.images.preprocessing import load_image
from gsp_deploy.metrics import cosine_distances
from gsp_deploy.runtime.openvino_model import processor_precisions

from .native import SOURCE, Build, lacking, openvino_folder

ALLOWED = 1e-5  # cosine distance
HAS_BF16 = "bf16" in processor_precisions()
needs_bf16 = pytest.mark.skipif(not HAS_BF16, reason="this processor has no bfloat16")


@pytest.fixture(scope="module")
def openvino_bundle(bundle_of: Callable[..., Path]) -> Path:
    return bundle_of(runtime="openvino")


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"include_preprocessing": True},
        {"dynamic_batch": False},
        {"external_data": True},
        {"precision": "fp16", "io_precision": "fp16"},
        pytest.param({"computes": "bf16"}, marks=needs_bf16),
        pytest.param({"precision": "bf16"}, marks=needs_bf16),
    ],
    ids=lambda options: "-".join(options),
)
def test_python_and_cpp_agree(
    options, library: Build, photographs, bundle_of: Callable[..., Path], tmp_path: Path
) -> None:
    bundle, out = bundle_of(runtime="openvino", **options), tmp_path / "e.npy"
    arguments = ("--threads", 1, "--batch", 3)  # eight files: the last chunk is short
    lines = library.lines("embed_images", bundle, "-o", out, *arguments, *photographs)
    with open_bundle(bundle) as session:
        pixels = np.stack([load_image(f, session.info.preprocessing) for f in photographs])
        expected, info = session.embed(pixels), session.info
    assert f"{info.precision}: {info.runtime} on {info.device}," in lines[0]
    found = np.load(out)
    assert found.shape == expected.shape
    assert cosine_distances(found, expected).max() <= ALLOWED
    lines = library.lines("embed_images", bundle, "--selftest", "--requests", 2)
    assert re.search(r"8 golden images: worst cosine distance \S+ .*pixels off by [01]", lines[1])


def test_any_onnx_model_runs_in_it(library: Build, bundle: Path) -> None:
    lines = library.lines("embed_images", bundle, "--selftest", "--backend", "openvino")
    assert "openvino" in lines[0]
    assert "computes in float32" in lines[0]


def test_each_images_residual_is_pythons(
    library: Build, photographs, bundle_of: Callable[..., Path]
) -> None:
    exported = {"outputs": ("residual",), "iterations": 2, "solver": "fixed-point"}
    bundle = bundle_of(runtime="openvino", **exported)
    images = photographs[:5]
    lines = library.lines("tests/probe", "residual", bundle, *images)
    with open_bundle(bundle) as session:
        pixels = np.stack([load_image(f, session.info.preprocessing) for f in images])
        expected = session.run(pixels, ("residual",))["residual"]
    np.testing.assert_allclose([float(line) for line in lines], expected, atol=1e-6, rtol=1e-3)


def test_threads_share_an_embedder(sanitized: Build, openvino_bundle: Path) -> None:
    """Equal results from four threads, moves, empty input, refusals; no leak or overrun."""
    assert sanitized.lines("tests/probe", "threads", openvino_bundle, 4) == ["ok"]


def test_a_signal_after_closing_ends_no_process(library: Build, openvino_bundle: Path) -> None:
    assert library.lines("tests/probe", "signal", openvino_bundle) == ["ok"]


def test_a_library_that_is_missing(library: Build, openvino_bundle: Path) -> None:
    nowhere = {"GSP_OPENVINO_LIBRARY": "/no/such.so"}
    done = library.run("embed_images", openvino_bundle, "--selftest", **nowhere)
    assert done.returncode == 4
    assert "name its libopenvino_c.so in GSP_OPENVINO_LIBRARY" in done.stderr
    assert done.stderr.count("\n") == 1
    done = library.run("embed_images", openvino_bundle, "--selftest", "--fallback", **nowhere)
    assert done.returncode == 0
    assert "onnxruntime" in done.stdout


def test_a_library_that_is_another(library: Build, openvino_bundle: Path) -> None:
    other = str(next(library.folder.glob("libgsp_runtime.so*")))
    done = library.run("embed_images", openvino_bundle, "--selftest", GSP_OPENVINO_LIBRARY=other)
    assert done.returncode == 4
    assert "has no function ov_get_openvino_version" in done.stderr


def test_a_pooling_node_falls_back(library: Build, bundle_of: Callable[..., Path]) -> None:
    bundle = bundle_of(runtime="openvino", pooling_form="plugin")
    done = library.run("embed_images", bundle, "--selftest")
    assert done.returncode == 4
    assert "export it with --pooling unrolled" in done.stderr
    assert library.run("embed_images", bundle, "--selftest", "--fallback").returncode == 0


def test_a_precision_that_the_processor_has_not(
    library: Build, bundle_of: Callable[..., Path], tmp_path: Path
) -> None:
    bundle = tmp_path / "bundle"
    shutil.copytree(bundle_of(runtime="openvino"), bundle)
    manifest = json.loads((bundle / "bundle.json").read_text())
    manifest["artifacts"][0]["computes"] = "fp8"
    (bundle / "bundle.json").write_text(json.dumps(manifest))
    (line,) = library.lines("tests/probe", "open", bundle)  # no hashes are checked
    assert "must be computed in fp8, which this processor has not" in line


def test_a_damaged_model_is_one_line(sanitized: Build, openvino_bundle: Path, tmp_path) -> None:
    bundle = tmp_path / "bundle"
    shutil.copytree(openvino_bundle, bundle)
    model = bundle / "m.onnx"
    model.write_bytes(model.read_bytes()[:3000])
    (line,) = sanitized.lines("tests/probe", "open", bundle)
    assert "m.onnx: OpenVINO: " in line


def test_the_declarations_are_those_of_the_release(tmp_path: Path) -> None:
    """Compile our declarations beside OpenVINO's headers, and compare each function's type."""
    headers = openvino_folder() / "include"
    if not (headers / "openvino/c/openvino.h").is_file() or shutil.which("g++") is None:
        lacking("g++, and openvino's C headers in its Python package")
    ours = (SOURCE / "src/openvino_api.hpp").read_text()
    body = ours[ours.index("struct OpenVinoApi {") : ours.index("// Load the library")]
    names = re.findall(r"\(\*(\w+)\)\(", body)
    assert len(names) > 20
    # Enumerators and structs of the same layout stand for each other in a call.
    checks = "".join(
        f"static_assert(same<decltype(gsp::OpenVinoApi::{n})>(&ov_{n}));\n" for n in names
    )
    source = tmp_path / "same.cpp"
    source.write_text(_COMPARISON + checks + "int main() {}\n")
    folders = [f"-I{headers}", f"-I{SOURCE / 'src'}", f"-I{SOURCE / 'include'}"]
    done = subprocess.run(
        ["g++", "-std=c++17", "-fsyntax-only", *folders, str(source)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[:3000]


_COMPARISON = """
#include <openvino/c/openvino.h>
#include <type_traits>
#include "openvino_api.hpp"

template <typename A, typename B>
constexpr bool alike() {
  if constexpr (std::is_same_v<A, B>) return true;
  if constexpr (std::is_pointer_v<A> && std::is_pointer_v<B>)
    return alike<std::remove_cv_t<std::remove_pointer_t<A>>,
                 std::remove_cv_t<std::remove_pointer_t<B>>>();
  if constexpr (std::is_enum_v<B>) return sizeof(A) == sizeof(B) && std::is_integral_v<A>;
  if constexpr (std::is_same_v<A, gsp::OpenVinoShape>)
    return std::is_same_v<B, ov_shape_t> && sizeof(A) == sizeof(B) &&
           offsetof(gsp::OpenVinoShape, dims) == offsetof(ov_shape_t, dims);
  if constexpr (std::is_same_v<A, gsp::OpenVinoVersion>)
    return std::is_same_v<B, ov_version_t> && sizeof(A) == sizeof(B) &&
           offsetof(gsp::OpenVinoVersion, build) == offsetof(ov_version_t, buildNumber);
  return false;
}
template <typename... A, typename... B, typename RA, typename RB>
constexpr bool alike_functions(RA (*)(A...), RB (*)(B...)) {
  if constexpr (sizeof...(A) != sizeof...(B)) return false;
  else return alike<RA, RB>() && (alike<A, B>() && ...);
}
template <typename... A, typename... B, typename RA, typename RB>
constexpr bool alike_functions(RA (*)(A..., ...), RB (*)(B..., ...)) {
  if constexpr (sizeof...(A) != sizeof...(B)) return false;
  else return alike<RA, RB>() && (alike<A, B>() && ...);
}
template <typename Ours, typename Theirs>
constexpr bool same(Theirs theirs) {
  return alike_functions(static_cast<Ours>(nullptr), theirs);
}
"""

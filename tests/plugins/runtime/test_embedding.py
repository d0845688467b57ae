"""C++ embeddings against Python's of the same files; the examples; threads and memory."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from foreign_onnx import MEAN, SIDE, STD, foreign_onnx

from gsp_deploy import PreprocessingSpec
from gsp_deploy.bundle import open_bundle
from gsp_deploy.bundle.packaging import PackageOptions, package_model
from gsp_deploy.export import adopt_onnx
from gsp_deploy.images.preprocessing import load_image
from gsp_deploy.metrics import cosine_distances

from .native import Build

ALLOWED = 1e-5  # cosine distance, ONNX Runtime on a CPU


def in_python(bundle: Path, files: list[Path]) -> np.ndarray:
    with open_bundle(bundle) as session:
        return session.embed(np.stack([load_image(f, session.info.preprocessing) for f in files]))


@pytest.mark.parametrize(
    ("options", "allowed"),
    [
        ({}, ALLOWED),
        ({"include_preprocessing": True}, ALLOWED),
        ({"dynamic_batch": False}, ALLOWED),
        ({"external_data": True}, ALLOWED),
        ({"precision": "fp16", "io_precision": "fp16"}, ALLOWED),
        ({"precision": "int8", "max_drop": 99}, ALLOWED),
        ({"precision": "int8", "max_drop": 99, "external_data": True}, ALLOWED),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_python_and_cpp_agree(
    options, allowed, library: Build, photographs, bundle_of: Callable[..., Path], tmp_path: Path
) -> None:
    bundle, out = bundle_of(**options), tmp_path / "e.npy"
    arguments = ("--threads", 1, "--batch", 3)  # eight files: the last chunk is short
    library.lines("embed_images", bundle, "-o", out, *arguments, *photographs)
    found, expected = np.load(out), in_python(bundle, photographs)
    assert found.shape == expected.shape
    assert found.dtype == np.float32
    assert cosine_distances(found, expected).max() <= allowed
    lines = library.lines("embed_images", bundle, "--selftest")
    assert re.search(r"8 golden images: worst cosine distance \S+ .*pixels off by [01]", lines[1])


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float16", "uint8"])
def test_an_adopted_network_gives_the_same_in_cpp(
    dtype: str, channels_last: bool, library: Build, photographs, tmp_path: Path
) -> None:
    source = foreign_onnx(tmp_path / "any.onnx", dtype=dtype, channels_last=channels_last)
    spec = PreprocessingSpec(SIDE, SIDE, MEAN, STD, interpolation="bicubic", pipeline="timm")
    adopted = adopt_onnx(source, tmp_path / "m.onnx", spec, normalize=True).path
    packing = PackageOptions(images=[str(photographs[0].parent)])
    bundle = package_model(adopted, tmp_path / "bundle", packing).folder
    library.lines("embed_images", bundle, "-o", tmp_path / "e.npy", "--threads", 1, *photographs)
    expected = in_python(bundle, photographs)
    assert cosine_distances(np.load(tmp_path / "e.npy"), expected).max() <= ALLOWED
    assert len(library.lines("embed_images", bundle, "--selftest")) > 1


def test_search_ranks_as_numpy_does(library: Build, bundle: Path, photographs, tmp_path) -> None:
    gallery = in_python(bundle, photographs)
    np.save(tmp_path / "g.npy", gallery)
    (tmp_path / "g.ids.txt").write_text("".join(f"{file}\n" for file in photographs))
    lines = library.lines("search", bundle, tmp_path / "g.npy", photographs[2], "--count", 4)
    order = np.argsort(-gallery @ gallery[2])[:4]
    assert lines[0] == str(photographs[2])
    assert [line.split()[1] for line in lines[1:]] == [str(photographs[i]) for i in order]
    assert lines[1].split()[0] == "1.0000"


def test_the_pipeline_gives_the_same_in_order(
    library: Build, bundle: Path, photographs, tmp_path
) -> None:
    folder, out = tmp_path / "images", tmp_path / "e.npy"
    shutil.copytree(photographs[0].parent, folder)
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff no more")
    options = ("--decoders", 3, "--workers", 2, "--batch", 2, "--threads", 1)
    done = library.run("pipeline", bundle, folder, "-o", out, *options)
    assert done.returncode == 0, done.stderr
    assert "skipped: " in done.stderr
    assert re.search(r"^8 of 9 images in \S+ s: \S+ images/s, decoding included", done.stdout)
    found = np.load(out)
    assert cosine_distances(found[:8], in_python(bundle, photographs)).max() <= ALLOWED
    assert not found[8].any()  # sorted last


@pytest.mark.parametrize("kind", ["sanitized", "raced"])
def test_threads_share_an_embedder(kind: str, bundle: Path, request) -> None:
    """Equal results from four threads, moves, empty input, refusals; no leak, race or overrun."""
    assert request.getfixturevalue(kind).lines("tests/probe", "threads", bundle, 4) == ["ok"]


def test_the_pipeline_is_free_of_races(raced: Build, bundle: Path, photographs) -> None:
    options = ("--decoders", 3, "--workers", 2, "--batch", 2, "--threads", 1)
    assert "8 of 8 images" in raced.lines("pipeline", bundle, photographs[0].parent, *options)[-1]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ((), 2, "expected BUNDLE"),
        (("--wrong",), 2, "unknown option --wrong"),
        (("bundle", "--threads", "two"), 2, "takes a whole number up to 1000, got 'two'"),
        (("bundle", "--decoders", "100000"), 2, "takes a whole number up to 1000, got '100000'"),
        (("bundle", "-o", "x.npy", "missing.jpg"), 1, "missing.jpg: cannot be read"),
        (("nowhere", "--selftest"), 1, "is this a bundle?"),
        (("bundle", "--selftest", "--backend", "tensorrt"), 4, "no artifact of the backend"),
        (("bundle", "--selftest", "--batch", "0"), 2, "must be at least 1"),
    ],
)
def test_errors_are_a_line_and_a_code(
    arguments, code, words, sanitized: Build, bundle: Path
) -> None:
    given = [bundle if word == "bundle" else word for word in arguments]
    done = sanitized.run("embed_images", *given)
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr.startswith("error: ")
    assert words in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("program", ["embed_images", "search", "pipeline"])
def test_help_names_every_option_that_is_parsed(program: str, library: Build) -> None:
    source = Path("plugins/runtime/examples/arguments.hpp").read_text()
    parsed = set(re.findall(r'option == "(-[a-z-]+)"', source)) - {"--help", "-h"}
    done = library.run(program, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: ")
    assert set(re.findall(r"^(-[a-z-]+) ", done.stdout, re.MULTILINE)) == parsed


def test_a_runtime_that_is_missing(library: Build, bundle: Path) -> None:
    done = library.run("embed_images", bundle, "--selftest", GSP_ONNXRUNTIME_LIBRARY="/no/such.so")
    assert done.returncode == 4
    assert "name its file in GSP_ONNXRUNTIME_LIBRARY" in done.stderr


def test_an_empty_variable_names_no_runtime(library: Build, bundle: Path) -> None:
    done = library.run("embed_images", bundle, "--selftest", GSP_ONNXRUNTIME_LIBRARY="")
    assert done.returncode in (0, 4)  # as this machine has one in the loader's path or not
    assert done.returncode == 0 or "(libonnxruntime.so.1: " in done.stderr


@pytest.mark.parametrize(
    "options",
    [{}, {"dynamic_batch": False}, {"precision": "fp16", "io_precision": "fp16"}],
    ids=lambda value: "-".join(value),
)
def test_each_images_residual_is_pythons(
    options, library: Build, photographs, bundle_of: Callable[..., Path]
) -> None:
    bundle = bundle_of(
        outputs=("weights", "residual"), iterations=2, solver="fixed-point", **options
    )
    images = photographs[:5]
    found = np.array(
        [float(line) for line in library.lines("tests/probe", "residual", bundle, *images)]
    )
    with open_bundle(bundle) as session:
        pixels = np.stack([load_image(f, session.info.preprocessing) for f in images])
        expected = session.run(pixels, ("residual",))["residual"]
    assert expected.max() > 1e-6  # two steps leave something to report
    np.testing.assert_allclose(found, expected, atol=1e-6, rtol=1e-3)


def test_a_model_without_a_residual_says_how_to_get_one(
    library: Build, bundle: Path, photographs
) -> None:
    done = library.run("tests/probe", "residual", bundle, photographs[0])
    assert done.returncode == 1
    assert "export the model with --also residual" in done.stderr
    assert done.stderr.count("\n") == 1

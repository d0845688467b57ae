"""What leaves the library is its own exception; names are any bytes; sizes are checked."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import zlib
from pathlib import Path

import pytest
from image_corpus import jpeg, png

from .native import Build

NAMES = [
    b"\xff\xfe.jpg",
    b"caf\xe9.jpg",
    b"two\nlines.jpg",
    b"\xed\xa0\x80.jpg",
    "été.jpg".encode(),
]


@pytest.mark.parametrize("name", NAMES)
def test_names_are_any_bytes(name: bytes, library: Build, tmp_path: Path) -> None:
    path = os.fsdecode(os.path.join(os.fsencode(tmp_path), name))
    try:
        Path(path).write_bytes(jpeg.encoded())
    except OSError:
        pytest.skip("needs a file system that takes any bytes as a name")
    probe = str(library.folder / "tests" / "probe")
    assert subprocess.check_output([probe, "image", path]) == b"21x13\n"
    Path(path).write_bytes(jpeg.encoded()[:40])
    line = subprocess.check_output([probe, "image", path]).decode("utf-8")  # and nothing else
    assert "damaged image (it ends too early)" in line
    assert line.count("\n") == 1
    if name == NAMES[-1]:
        assert "été.jpg" in line


def test_a_bundle_in_a_folder_of_any_name(library: Build, bundle: Path, tmp_path: Path) -> None:
    folder = os.fsdecode(os.path.join(os.fsencode(tmp_path), b"b\xff"))
    try:
        shutil.copytree(bundle, folder)
    except OSError:
        pytest.skip("needs a file system that takes any bytes as a name")
    done = library.run("embed_images", folder, "--selftest")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "shape",
    ["(-2, 3)", "(2, -3)", "-6", "(+6,)", "(6.0,)", "(2 3)", "(,)", "(6,,)", "[6]", "(6", "(0x6,)",
     "(99999999999999999999,)", "(" + "1, " * 40 + ")"],
)  # fmt: skip
def test_a_shape_that_is_none(shape: str, sanitized: Build, tmp_path: Path) -> None:
    header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    content = b"\x93NUMPY\x01\0" + len(header).to_bytes(2, "little") + header + b"abcdef"
    (tmp_path / "a.npy").write_bytes(content)
    (line,) = sanitized.lines("tests/probe", "npy", tmp_path / "a.npy")
    assert "not the array it should be, expected" in line


def test_a_header_longer_than_its_file(sanitized: Build, tmp_path: Path) -> None:
    (tmp_path / "a.npy").write_bytes(b"\x93NUMPY\x01\0\xff\xff{'descr': '|u1', ")
    (line,) = sanitized.lines("tests/probe", "npy", tmp_path / "a.npy")
    assert "expected a whole header" in line


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("embedding_dim",), -8),
        (("embedding_dim",), 1e300),
        (("preprocessing", "height"), -32),
        (("preprocessing", "width"), 0),
        (("preprocessing", "width"), 32.5),
        (("preprocessing", "height"), 1 << 15),  # with a width of as much, beyond all images
        (("preprocessing", "crop_ratio"), -0.5),
        (("preprocessing", "std"), [1, 1, -1]),
        (("preprocessing", "pipeline"), "tensorflow"),
        (("artifacts", 0, "fixed_batch"), -1),
        (("format",), -1),
    ],
)
def test_sizes_that_are_none(
    place: tuple[str | int, ...], value: object, sanitized: Build, bundle: Path, tmp_path: Path
) -> None:
    manifest = json.loads((bundle / "bundle.json").read_text())
    if value == 1 << 15:
        manifest["preprocessing"]["width"] = value
    inner = manifest
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    (tmp_path / "bundle.json").write_text(json.dumps(manifest))
    (line,) = sanitized.lines("tests/probe", "open", tmp_path)
    assert "bundle.json" in line
    assert any(word in line for word in ("range", "whole number", "above 0", "not known", "format"))


def test_a_manifest_without_a_pipeline_is_read(
    library: Build, bundle: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "old"
    shutil.copytree(bundle, folder)
    manifest = json.loads((bundle / "bundle.json").read_text())
    del manifest["preprocessing"]["pipeline"]
    (folder / "bundle.json").write_text(json.dumps(manifest))
    assert library.lines("tests/probe", "open", folder) == [manifest["model"]]


@pytest.mark.parametrize("reader", ["image", "npy"])
def test_memory_that_is_not_there(reader: str, library: Build, tmp_path: Path) -> None:
    """A limit on memory stands for a machine that has less."""
    large = png.SIGNATURE + png.chunk(b"IHDR", png.header(4000, 4000, 2, 8))
    large += png.chunk(b"IDAT", zlib.compress(bytes(4000 * 12001), 1))
    header = b"{'descr': '|u1', 'fortran_order': False, 'shape': (104857600,), }\n"
    array = b"\x93NUMPY\x01\0" + len(header).to_bytes(2, "little") + header + bytes(100 << 20)
    content = {"image": large, "npy": array}[reader]
    (tmp_path / "file").write_bytes(content)
    limit = 90 << 20
    done = subprocess.run(
        [library.folder / "tests/probe", reader, tmp_path / "file"],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)),
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "not enough memory" in done.stdout


def test_folders_that_may_not_be_read(library: Build, bundle: Path, tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("needs a user whom permissions bind")
    folder = tmp_path / "closed"
    shutil.copytree(bundle, folder)
    os.chmod(folder, 0)
    try:
        (line,) = library.lines("tests/probe", "open", folder)
    finally:
        os.chmod(folder, 0o700)
    assert "cannot be read" in line

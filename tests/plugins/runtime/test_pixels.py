"""Decoding and resizing in C++ against Python's, on files of every kind and damaged ones."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import PIL
import pytest
from packaging.version import Version

from gsp_deploy.config import PreprocessingSpec
from gsp_deploy.errors import DataError
from gsp_deploy.images.preprocessing import load_image

from .native import Build

ALLOWED = 1  # least significant bit, before normalisation

SPECS = [
    PreprocessingSpec(32, 32),
    PreprocessingSpec(112, 96, interpolation="bicubic", crop_ratio=0.875),
    PreprocessingSpec(37, 131, resize="stretch"),
    PreprocessingSpec(150, 201, interpolation="bicubic", resize="stretch"),
    PreprocessingSpec(224, 224, crop_ratio=0.95),
    PreprocessingSpec(96, 96, crop_ratio=0.875, pipeline="timm"),
    PreprocessingSpec(64, 112, interpolation="bicubic", crop_ratio=0.9, pipeline="timm"),
    PreprocessingSpec(90, 70, crop_ratio=0.875, pipeline="opencv"),
    PreprocessingSpec(90, 131, interpolation="bicubic", resize="stretch", pipeline="opencv"),
    PreprocessingSpec(112, 96, interpolation="bicubic", crop_ratio=0.875, pipeline="pillow"),
    PreprocessingSpec(90, 131, resize="stretch", crop_ratio=0.9),
    PreprocessingSpec(77, 77, resize="stretch", crop_ratio=0.9, pipeline="timm"),
    PreprocessingSpec(90, 131, resize="stretch", crop_ratio=0.9, pipeline="opencv"),
    PreprocessingSpec(90, 131, resize="stretch", crop_ratio=0.9, pipeline="pillow"),
]


def fitted(library: Build, file: Path, spec: PreprocessingSpec, out: Path) -> np.ndarray:
    words = (spec.height, spec.width, spec.interpolation, spec.resize, repr(spec.crop_ratio))
    library.lines("tests/probe", "fit", *words, file, out, spec.pipeline)
    return np.fromfile(out, np.uint8).reshape(spec.height, spec.width, 3)


@pytest.mark.parametrize("spec", SPECS, ids=lambda s: f"{s.pipeline}-{s.interpolation}-{s.height}")
def test_pixels_are_pythons(
    spec, library: Build, photographs: list[Path], variants: list[Path], tmp_path: Path
) -> None:
    """Photographs of odd sizes, both formats, every colour mode, every orientation."""
    files = photographs + (variants if spec is SPECS[0] or spec is SPECS[1] else [])
    different = []
    for file in files:
        mine = fitted(library, file, spec, tmp_path / "pixels")
        python = load_image(file, spec)
        error = np.abs(mine.astype(int) - python.astype(int))
        assert error.max() <= ALLOWED, file.name
        different.append((error > 0).mean())
    if Version(PIL.__version__) < Version("13"):
        # Rows always went first there, and rounding in between shows in some pixels.
        assert np.mean(different) < 0.2
    elif spec.pipeline == "pillow":
        assert np.mean(different) < 0.02  # Pillow takes a box in single precision
    else:
        assert not any(different)


def test_a_resize_that_changes_nothing_keeps_every_bit(
    library: Build, photographs: list[Path], tmp_path: Path
) -> None:
    from PIL import Image

    pixels = np.asarray(Image.open(photographs[0]).convert("RGB"))
    spec = PreprocessingSpec(*pixels.shape[:2])
    np.testing.assert_array_equal(fitted(library, photographs[0], spec, tmp_path / "p"), pixels)


def test_damaged_files_are_told_and_break_nothing(
    sanitized: Build, variants: list[Path], tmp_path: Path
) -> None:
    """Cut and overwritten at random: an image or one line, and no wrong memory access."""
    draw = np.random.default_rng(0)
    files = []
    for index in range(240):
        source = variants[index % len(variants)]
        content = bytearray(source.read_bytes())
        if index % 3 == 0:
            del content[int(draw.integers(0, len(content))) :]
        else:
            for place in draw.integers(0, len(content), 1 + index % 7):
                content[place] = int(draw.integers(0, 256))
        files.append(tmp_path / f"{index}{source.suffix}")
        files[-1].write_bytes(content)
    lines = sanitized.lines("tests/probe", "image", *files)
    assert len(lines) == len(files)
    told = [line for line in lines if "damaged image" in line or "expected a JPEG or PNG" in line]
    whole = [line for line in lines if line.replace("x", "", 1).isdigit()]
    assert len(told) > 60
    assert len(whole) > 20
    assert len(told) + len(whole) == len(lines) - sum("beyond the limit" in line for line in lines)


def test_truncated_files_are_refused_as_in_python(library: Build, variants, tmp_path: Path) -> None:
    for source in (variants[0], variants[-1]):
        cut = tmp_path / source.name
        cut.write_bytes(source.read_bytes()[:-300])
        with pytest.raises(DataError):
            load_image(cut, SPECS[0])
        (line,) = library.lines("tests/probe", "image", cut)
        assert "damaged image (it ends too early)" in line


def test_files_that_are_none(library: Build, tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("no image")
    (tmp_path / "empty.png").write_bytes(b"")
    names = ("text.jpg", "empty.png", "missing.png", ".")
    lines = library.lines("tests/probe", "image", *(tmp_path / name for name in names))
    assert "expected a JPEG or PNG" in lines[0]
    assert "expected a JPEG or PNG" in lines[1]
    assert all("cannot be read" in line for line in lines[2:])


def test_scans_without_end_are_refused(library: Build, variants: list[Path], tmp_path) -> None:
    """A progressive file whose last scan comes again and again, each time over all pixels."""
    (source,) = (file for file in variants if file.name == "progressive.jpg")
    content = source.read_bytes()
    last = content.rindex(b"\xff\xda")
    scan, end = content[last:-2], content[-2:]
    few, many = tmp_path / "few.jpg", tmp_path / "many.jpg"
    few.write_bytes(content[:last] + scan * 3 + end)
    many.write_bytes(content[:last] + scan * 300 + end)
    whole, refused = library.lines("tests/probe", "image", few, many)
    assert whole == "61x43"
    assert "damaged image (it has more than 100 scans)" in refused


def test_a_model_without_a_size_is_refused(library: Build, photographs, tmp_path: Path) -> None:
    good = (32, 32, "bilinear", "crop", 1)
    for place, bad in ((0, 0), (1, -1), (4, 0), (4, "nan")):
        words = [*good[:place], bad, *good[place + 1 :]]
        done = library.run("tests/probe", "fit", *words, photographs[0], tmp_path / "out")
        assert done.returncode == 1
        assert "expected a model's size and a crop ratio above 0 and at most 1" in done.stderr


def test_the_smallest_crop_ratio_sees_the_centre(
    library: Build, photographs: list[Path], tmp_path: Path
) -> None:
    """A resized image beyond what a double holds is as good as one that it holds."""
    small, least = (PreprocessingSpec(32, 32, crop_ratio=ratio) for ratio in (1e-12, 2.3e-308))
    found = [fitted(library, photographs[0], spec, tmp_path / "out") for spec in (small, least)]
    assert load_image(photographs[0], least).shape == (32, 32, 3)
    np.testing.assert_array_equal(*found)
    python = load_image(photographs[0], small)
    assert np.abs(found[0].astype(int) - python.astype(int)).max() <= ALLOWED


def test_a_bomb_is_refused_by_its_header(library: Build, tmp_path: Path) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    bomb = tmp_path / "bomb.png"
    bomb.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b""))
    (line,) = library.lines("tests/probe", "image", bomb)
    assert "60000x60000 is beyond the limit" in line

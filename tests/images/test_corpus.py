"""Every form of JPEG and PNG: pixels, orientation, and the limits that C++ shares."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from image_corpus import Case, jpeg, png

from gsp_deploy.errors import DataError
from gsp_deploy.images import limits
from gsp_deploy.images.decoding import decode_image
from gsp_deploy.images.jpeg import decode_jpeg, read_jpeg
from gsp_deploy.images.orientation import upright
from gsp_deploy.images.png import read_png
from gsp_deploy.images.png_pixels import decode_png

ROOT = Path(__file__).parents[2]


def stored(case: Case) -> np.ndarray:
    """Return a file's pixels, turned as the corpus knows that they are to be turned."""
    if case.name.endswith(".jpg"):
        image = decode_jpeg(read_jpeg(case.content))
    else:
        image = decode_png(read_png(case.content))
    assert case.turn is not None
    return np.asarray(upright(image, case.turn))


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("cases", [jpeg.cases, png.cases], ids=["jpeg", "png"])
def test_what_is_taken_and_which_way_up(cases) -> None:
    wrong = {}
    for case in cases():
        try:
            found = np.asarray(decode_image(io.BytesIO(case.content), case.name))
        except DataError as error:
            if case.taken:
                wrong[case.name] = str(error)
            continue
        if case.taken is False:
            wrong[case.name] = "taken"
        elif case.taken and case.turn and not np.array_equal(found, stored(case)):
            wrong[case.name] = f"not turned by {case.turn}: {found.shape}"
    assert not wrong


@pytest.mark.parametrize("colour", [0, 2, 3, 4, 6])
def test_samples_of_a_png_are_what_was_written(colour: int) -> None:
    """The corpus's writer is the oracle: 8 bits without transparency come back as they were."""
    values = png.samples(33, 19, colour, 8)
    palette = png.palette(8)
    expected = values
    if colour == 3:
        expected = np.frombuffer(palette[8:-4], np.uint8).reshape(-1, 3)[values[:, :, 0]]
    elif colour in (4, 6):
        colours, alpha = values[:, :, :-1], values[:, :, -1:]
        expected = np.round((colours * alpha + 255 * (255 - alpha)) / 255)
    for interlaced in (False, True):
        before = palette if colour == 3 else b""
        content = png.png(values, colour, 8, before=before, interlaced=interlaced)
        found = np.asarray(decode_image(io.BytesIO(content), "image.png"))
        np.testing.assert_array_equal(found, np.broadcast_to(expected, found.shape))


def test_sixteen_bits_of_a_hole_count() -> None:
    """A pixel that equals the transparent colour only in the high byte is not transparent."""
    values = np.array([[[0x1234, 0x5678, 0x9ABC], [0x1235, 0x5678, 0x9ABC]]])
    hole = png.chunk(b"tRNS", bytes.fromhex("123456789abc"))
    content = png.png(values, 2, 16, before=hole)
    found = np.asarray(decode_image(io.BytesIO(content), "image.png"))
    assert found.tolist() == [[[255, 255, 255], [0x12, 0x56, 0x9A]]]


def test_a_grey_of_sixteen_bits_may_be_transparent() -> None:
    values = np.array([[[1000], [1001], [65535]]])
    content = png.png(values, 0, 16, before=png.chunk(b"tRNS", (1000).to_bytes(2, "big")))
    found = np.asarray(decode_image(io.BytesIO(content), "image.png"))
    assert found[0, :, 0].tolist() == [255, 4, 255]


def test_the_limits_of_cpp_are_those_of_python() -> None:
    header = ROOT / "plugins" / "runtime" / "include" / "gsp" / "limits.hpp"
    assert header.read_text() == limits.cpp_header() + "\n"

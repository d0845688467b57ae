"""Every listed format opens, and any other is refused with the list."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image, features

from gsp_deploy.errors import DataError
from gsp_deploy.images.files import find_images
from gsp_deploy.images.formats import formats_sentence, readable_formats, readable_suffixes
from gsp_deploy.preprocessing import decode_image

PHOTOGRAPHS = {".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".webp", ".bmp", ".tif", ".tiff"}
OTHERS = {".gif", ".ppm", ".pgm", ".pbm", ".tga", ".ico", ".qoi"}
OPTIONAL = {".jp2": "jpg_2000", ".avif": "avif"}


def test_what_people_name_their_images() -> None:
    expected = PHOTOGRAPHS | OTHERS
    expected |= {suffix for suffix, feature in OPTIONAL.items() if features.check(feature)}
    assert expected <= readable_suffixes()


def test_files_that_are_no_pictures_are_not_listed() -> None:
    """Pillow recognises these; it would start a program for one, and can decode none of them."""
    assert not readable_suffixes() & {".eps", ".ps", ".pdf", ".mpg", ".h5", ".grib", ".wmf", ".txt"}


@pytest.mark.parametrize("suffix", sorted(PHOTOGRAPHS | OTHERS | set(OPTIONAL)))
def test_every_suffix_is_found_and_decoded(suffix: str, tmp_path: Path) -> None:
    if suffix in OPTIONAL and not features.check(OPTIONAL[suffix]):
        pytest.skip(f"needs a Pillow with {OPTIONAL[suffix]}")
    mode = {".pgm": "L", ".pbm": "1"}.get(suffix, "RGB")
    file = tmp_path / f"picture{suffix.upper()}"
    Image.new(mode, (16, 16), 255 if mode != "RGB" else "red").save(file)
    assert find_images([tmp_path]) == [file]
    assert decode_image(file).size == (16, 16)


def test_a_refusal_names_the_formats(tmp_path: Path) -> None:
    stream = io.BytesIO()
    Image.new("RGB", (8, 8)).save(stream, "EPS")
    file = tmp_path / "drawing.png"
    file.write_bytes(stream.getvalue())
    with pytest.raises(DataError, match="not an image") as caught:
        decode_image(file)
    assert formats_sentence() in str(caught.value)
    assert all(name in str(caught.value) for name in readable_formats())

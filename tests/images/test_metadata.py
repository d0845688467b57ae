"""Damaged metadata never makes decoding fail, in any format; file names may be any bytes."""

from __future__ import annotations

import io
import os
import struct
from pathlib import Path

import numpy as np
import pytest
from image_corpus import jpeg, metadata
from PIL import Image, TiffImagePlugin, features

from gsp_deploy.errors import DataError, ImageSizeError
from gsp_deploy.images import decoding, gif
from gsp_deploy.images.decoding import decode_image
from gsp_deploy.images.orientation import exif_orientation, upright

PIXELS = jpeg.drawing()


def encoded(kind: str, **options: object) -> bytes:
    """Return the drawing as a lossless file of a format."""
    stream = io.BytesIO()
    more = {"lossless": True} if kind == "WEBP" else {}
    Image.fromarray(PIXELS).save(stream, kind, **more, **options)
    return stream.getvalue()


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", metadata.exif_blocks())
def test_the_orientation_is_pillows_wherever_it_reads_the_block(name: str) -> None:
    block, stated = metadata.exif_blocks()[name]
    assert exif_orientation(block) == stated
    exif = Image.Exif()
    try:
        exif.load(block)
    except (SyntaxError, struct.error):
        return
    pillow = exif.get(0x0112)
    turned = pillow if pillow in range(2, 9) else 1
    if not block.startswith(b"MM\0+"):  # a BigTIFF, which Pillow reads as if it were none
        assert metadata.turn_of(stated) == turned


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", metadata.exif_blocks())
@pytest.mark.parametrize("kind", ["WEBP", "PNG"])
def test_exif_of_any_kind_in_other_containers(kind: str, name: str) -> None:
    block, stated = metadata.exif_blocks()[name]
    found = decode_image(io.BytesIO(encoded(kind, exif=block)), "image")
    expected = upright(Image.fromarray(PIXELS), metadata.turn_of(stated))
    np.testing.assert_array_equal(np.asarray(found), np.asarray(expected))


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.skipif(not features.check("avif"), reason="needs a Pillow that reads AVIF")
@pytest.mark.parametrize("turned", [1, 6])
@pytest.mark.parametrize("name", metadata.exif_blocks())
def test_exif_of_any_kind_in_avif(name: str, turned: int) -> None:
    """There the orientation is a property of the image, and the EXIF block has no say."""
    block, _ = metadata.exif_blocks()[name]
    placeholder = metadata.block(after=bytes(range(100, 200)) * 70)[: max(len(block), 40)]
    exif = Image.Exif()
    exif.load(placeholder)
    exif[0x0112] = turned
    exif[0x010E] = "x" * len(block)  # Pillow writes it, and the block takes its place below
    content = encoded_avif(exif)
    assert content.count(b"II*\0") + content.count(b"MM\0*") == 1
    at = max(content.find(b"II*\0"), content.find(b"MM\0*"))
    content = content[:at] + block + content[at + len(block) :]
    found = decode_image(io.BytesIO(content), "image")
    expected = upright(decode_image(io.BytesIO(encoded_avif(None)), "image"), turned)
    np.testing.assert_array_equal(np.asarray(found), np.asarray(expected))


def encoded_avif(exif: Image.Exif | None) -> bytes:
    stream = io.BytesIO()
    more = {} if exif is None else {"exif": exif}
    Image.fromarray(PIXELS).save(stream, "AVIF", quality=100, subsampling="4:4:4", **more)
    return stream.getvalue()


def test_a_damaged_avif_is_refused() -> None:
    if not features.check("avif"):
        pytest.skip("needs a Pillow that reads AVIF")
    content = encoded_avif(None)
    for damaged in (content[:60], content[: len(content) // 2], content[:12]):
        with pytest.raises(DataError, match=r"image: (damaged|not an) image"):
            decode_image(io.BytesIO(damaged), "image")


@pytest.mark.parametrize("kind", ["WEBP", "PNG", "TIFF"])
def test_a_profile_that_is_none(kind: str) -> None:
    found = decode_image(io.BytesIO(encoded(kind, icc_profile=b"no profile")), "image")
    np.testing.assert_array_equal(np.asarray(found), PIXELS)


def test_a_comment_that_is_no_text() -> None:
    stream = io.BytesIO()
    Image.fromarray(PIXELS).quantize(16).save(stream, "GIF", comment=bytes(range(256)))
    assert decode_image(stream, "image").size == (21, 13)


def commented(comment: bytes, transparent: bool) -> tuple[bytes, int]:
    """Return a GIF file, and the place of the first length in its comment."""
    stream = io.BytesIO()
    options = {"transparency": 0} if transparent else {}
    Image.fromarray(PIXELS).quantize(16).save(stream, "GIF", comment=comment, **options)
    content = stream.getvalue()
    return content, content.index(b"!\xfe") + 2


@pytest.mark.parametrize("transparent", [False, True])
@pytest.mark.parametrize(
    "comment", [b"by me", b"Hello, a comment; made! by me " * 20, bytes(range(256)) * 2]
)
def test_a_comment_of_another_length_costs_no_pixels(comment: bytes, transparent: bool) -> None:
    whole, length = commented(comment, transparent)
    expected = np.asarray(decode_image(io.BytesIO(whole), "image"))
    for wrong in range(256):
        content = whole[:length] + bytes([wrong]) + whole[length + 1 :]
        found = np.asarray(decode_image(io.BytesIO(content), "image"))
        np.testing.assert_array_equal(found, expected, str(wrong))


def test_a_comment_of_another_length_hides_no_frame() -> None:
    stream = io.BytesIO()
    frames = [Image.fromarray(pixels).quantize(16) for pixels in (PIXELS, 255 - PIXELS)]
    frames[0].save(stream, "GIF", save_all=True, append_images=frames[1:], comment=b"by me" * 9)
    whole = stream.getvalue()
    length = whole.index(b"!\xfe") + 2
    expected = np.asarray(decode_image(io.BytesIO(whole), "image"))
    for wrong in range(256):
        content = whole[:length] + bytes([wrong]) + whole[length + 1 :]
        found = np.asarray(decode_image(io.BytesIO(content), "image"))
        np.testing.assert_array_equal(found, expected, str(wrong))


def test_comments_of_a_right_length_stay() -> None:
    for transparent in (False, True):
        content, _ = commented(b"a,b!c;" * 90, transparent)
        assert gif.without_hiding_comments(content) == content


def test_a_gif_without_whole_pixels_is_refused() -> None:
    whole, length = commented(b"by me", False)
    wrong = whole[:length] + b"\1" + whole[length + 1 :]
    for content in (wrong[:-9], wrong[: length + 9], whole[:-9], whole[:13], whole[:7]):
        with pytest.raises(DataError, match=r"image: (damaged|not an) image"):
            decode_image(io.BytesIO(content), "image")


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
@pytest.mark.parametrize(
    ("damage", "compression"),
    [
        *((damage, None) for damage in ("exif", "xmp", "artist", "resolution", "none")),
        *((damage, "tiff_lzw") for damage in ("exif", "xmp", "none")),  # libtiff writes no others
    ],
)
def test_tags_of_a_tiff(damage: str, orientation: int, compression: str | None) -> None:
    """A TIFF's own tags beside the pixels' are metadata too."""
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[0x0112] = orientation
    tags[0x0132] = "2026:01:01 00:00:00"
    if damage == "exif":
        tags.tagtype[0x8769] = 4
        tags[0x8769] = 0x7FFFFFF0  # a directory beyond the end
    elif damage == "xmp":
        tags.tagtype[0x02BC] = 7
        tags[0x02BC] = b"\xff\xfe<x"
    elif damage == "artist":
        tags.tagtype[0x013B] = 7
        tags[0x013B] = bytes(range(128, 256))
    elif damage == "resolution":
        tags.tagtype[0x011A] = 5
        tags[0x011A] = TiffImagePlugin.IFDRational(0, 0)
    content = encoded("TIFF", tiffinfo=tags, compression=compression)
    found = decode_image(io.BytesIO(content), "image")
    expected = upright(Image.fromarray(PIXELS), orientation)
    np.testing.assert_array_equal(np.asarray(found), np.asarray(expected))


def webp_damages() -> dict[str, tuple[bytes, int]]:
    """Return WebP files with orientation 6, damaged outside the pixels, and which way they turn."""
    whole = encoded("WEBP", exif=metadata.stated(6), icc_profile=b"no profile")
    at = whole.index(b"EXIF")
    length = len(metadata.stated(6))
    assert whole[at + 4 : at + 8] == struct.pack("<L", length)

    def with_length(number: int) -> bytes:
        return whole[: at + 4] + struct.pack("<L", number) + whole[at + 8 :]

    return {
        "whole": (whole, 6),
        "ends before EXIF": (whole[:at], 1),
        "ends in EXIF's header": (whole[: at + 5], 1),
        "ends in EXIF": (whole[: at + 20], 1),
        "EXIF without length": (with_length(0), 1),
        "EXIF too long": (with_length(length + 1000), 1),
        "EXIF endless": (with_length(0xFFFFFFFF), 1),
        "more after it": (whole + b"more" * 9, 6),
        "wrong size of the file": (whole[:4] + bytes(4) + whole[8:], 6),
        "two EXIF": (whole + whole[at:].replace(metadata.stated(6), metadata.stated(3)), 6),
        "unknown chunk": (whole + b"ABCD" + struct.pack("<L", 99), 6),
    }


@pytest.mark.parametrize("name", webp_damages())
def test_chunks_of_a_webp(name: str) -> None:
    content, turn = webp_damages()[name]
    found = decode_image(io.BytesIO(content), "image")
    expected = upright(Image.fromarray(PIXELS), turn)
    np.testing.assert_array_equal(np.asarray(found), np.asarray(expected))


def test_a_webp_without_whole_pixels_is_refused() -> None:
    whole = encoded("WEBP")
    for damaged in (whole[:-9], whole[:30], whole[:12], whole.replace(b"VP8L", b"EXIF")):
        with pytest.raises(DataError, match=r"image: (damaged|not an) image"):
            decode_image(io.BytesIO(damaged), "image")


def test_an_animated_webp_gives_its_first_frame() -> None:
    first, second = Image.fromarray(PIXELS), Image.fromarray(255 - PIXELS)
    stream = io.BytesIO()
    first.save(stream, "WEBP", lossless=True, save_all=True, append_images=[second])
    np.testing.assert_array_equal(np.asarray(decode_image(stream, "image")), PIXELS)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(("order", "compression"), [("<", None), (">", None), ("<", "tiff_lzw")])
@pytest.mark.parametrize("lost", [0x010D, 0x010E, 0x02BC, 0x8773])
def test_a_tag_whose_data_is_lost_costs_no_pixels(
    order: str, lost: int, compression: str | None
) -> None:
    """Its data ends beyond the file; Pillow reads no tag that comes after it."""
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[0x0112] = 6
    is_text = lost < 0x0200
    tags.tagtype[lost] = 2 if is_text else 7
    tags[lost] = "x" * 50 if is_text else b"x" * 50
    values = bytes(range(2 * 21 * 13 % 256)) + bytes(2 * 21 * 13 - 2 * 21 * 13 % 256)
    deep = Image.frombytes("I;16B", (21, 13), values)  # Pillow stores these with MM
    image = Image.fromarray(PIXELS) if order == "<" else deep
    stream = io.BytesIO()
    image.save(stream, "TIFF", tiffinfo=tags, compression=compression)
    whole = stream.getvalue()
    assert whole.startswith(b"II" if order == "<" else b"MM")
    damaged = bytearray(whole)
    (directory,) = struct.unpack_from(f"{order}L", whole, 4)
    (place,) = (
        at
        for at in range(directory + 2, directory + 12 * whole[directory + (order == ">")], 12)
        if struct.unpack_from(f"{order}H", whole, at) == (lost,)
    )
    struct.pack_into(f"{order}L", damaged, place + 8, len(whole) - 1)
    expected, found = (np.asarray(decode_image(io.BytesIO(c), "i")) for c in (whole, damaged))
    assert found.shape == (21, 13, 3)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_tiff_whose_pixels_are_lost_is_refused() -> None:
    whole = encoded("TIFF")
    place = whole.index(struct.pack("<HH", 0x0111, 4))
    damaged = whole[: place + 8] + struct.pack("<L", len(whole)) + whole[place + 12 :]
    for content in (damaged, whole[:8], whole[:9], whole[:30], b"II*\0\xff\xff\xff\xff"):
        with pytest.raises(DataError, match=r"image: (damaged|not an) image"):
            decode_image(io.BytesIO(content), "image")


@pytest.mark.parametrize(
    "name", [b"\xff\xfe.jpg", b"caf\xe9.jpg", b"two\nlines.jpg", b"\x1b[1m.jpg"]
)
def test_names_are_any_bytes(name: bytes, tmp_path: Path) -> None:
    path = os.path.join(os.fsencode(tmp_path), name)
    try:
        Path(os.fsdecode(path)).write_bytes(jpeg.encoded())
    except OSError:
        pytest.skip("needs a file system that takes any bytes as a name")
    assert decode_image(os.fsdecode(path)).size == (21, 13)
    Path(os.fsdecode(path)).write_bytes(jpeg.encoded()[:40])
    with pytest.raises(DataError, match="damaged") as caught:
        decode_image(Path(os.fsdecode(path)))
    assert str(caught.value).isprintable()
    str(caught.value).encode()


def test_only_plain_files_are_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(DataError, match=r"pipe\.jpg: expected a regular file, got a pipe"):
        decode_image(tmp_path / "pipe.jpg")


def test_a_file_of_too_many_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "MAX_FILE_BYTES", 100)
    (tmp_path / "large.jpg").write_bytes(jpeg.encoded())
    with pytest.raises(ImageSizeError, match="bytes are beyond the limit of 100; scale it down"):
        decode_image(tmp_path / "large.jpg")

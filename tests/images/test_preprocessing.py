"""Images of every kind are decoded and fitted to the model's size."""

from __future__ import annotations

import io
import random
import struct
import threading
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import skimage.data
from PIL import Image
from skimage.transform import resize

from gsp_deploy.config import PreprocessingSpec
from gsp_deploy.errors import DataError
from gsp_deploy.images.limits import MAX_PIXELS
from gsp_deploy.images.preprocessing import decode_image, fit_image, load_image

QUARTERS = np.zeros((20, 30, 3), np.uint8)
QUARTERS[:10, :15] = (255, 0, 0)
QUARTERS[:10, 15:] = (0, 255, 0)
QUARTERS[10:, :15] = (0, 0, 255)
QUARTERS[10:, 15:] = (200, 200, 200)


@pytest.fixture(scope="module")
def photograph() -> Image.Image:
    return Image.fromarray(skimage.data.chelsea())  # 451 x 300


def saved(image: Image.Image, path: Path, **options: object) -> np.ndarray:
    image.save(path, **options)
    decoded = decode_image(path)
    assert decoded.mode == "RGB"
    return np.asarray(decoded)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".ppm", ".webp"])
def test_lossless_formats_come_back_as_they_were(suffix: str, tmp_path: Path) -> None:
    options = {"lossless": True} if suffix == ".webp" else {}
    path = tmp_path / f"image{suffix}"
    assert np.array_equal(saved(Image.fromarray(QUARTERS), path, **options), QUARTERS)


def test_palettes_and_greyscale_become_rgb(tmp_path: Path) -> None:
    image = Image.fromarray(QUARTERS)
    assert np.array_equal(saved(image.quantize(4), tmp_path / "p.png"), QUARTERS)
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    assert np.array_equal(saved(Image.fromarray(grey), tmp_path / "l.png"), np.dstack([grey] * 3))
    bits = saved(Image.fromarray(grey > 127), tmp_path / "1.png")
    assert np.array_equal(bits, np.dstack([(grey > 127) * np.uint8(255)] * 3))


@pytest.mark.parametrize("white", [1, 255])
def test_floating_point_pixels_are_refused_and_not_clipped(white: int, tmp_path: Path) -> None:
    path = tmp_path / "f.tif"
    Image.fromarray(np.linspace(0, white, 64, dtype=np.float32).reshape(8, 8)).save(path)
    with pytest.raises(DataError, match=r"f\.tif: floating-point pixels .* in 8 or 16 bits"):
        decode_image(path)


def test_sixteen_bits_are_scaled_to_eight(tmp_path: Path) -> None:
    values = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    found = saved(Image.fromarray(values), tmp_path / "i16.png")
    assert np.array_equal(found[..., 0], np.round(values / 257).astype(np.uint8))
    wide = saved(Image.fromarray(values.astype(np.int32) * 100), tmp_path / "i32.tif")
    assert np.array_equal(wide[..., 0], found[..., 0])


def test_transparency_is_laid_on_white(tmp_path: Path) -> None:
    layers = np.zeros((2, 3, 4), np.uint8)
    layers[..., 0] = 200
    layers[:, :, 3] = [0, 128, 255]
    found = saved(Image.fromarray(layers), tmp_path / "rgba.png")
    alpha = np.array([0, 128, 255]) / 255
    expected = alpha[:, None] * [200, 0, 0] + (1 - alpha[:, None]) * 255
    np.testing.assert_allclose(found[0], expected, atol=1)
    grey = Image.fromarray(layers[..., [0, 3]], "LA")
    np.testing.assert_allclose(
        saved(grey, tmp_path / "la.png")[0, :, 1], alpha * 200 + (1 - alpha) * 255, atol=1
    )
    keyed = saved(Image.fromarray(QUARTERS).quantize(4), tmp_path / "keyed.png", transparency=0)
    assert (keyed == 255).all(axis=2).any()


def test_cmyk_photographs_look_like_themselves(photograph: Image.Image, tmp_path: Path) -> None:
    found = saved(photograph.convert("CMYK"), tmp_path / "cmyk.jpg", quality=95)
    difference = np.abs(found.astype(int) - np.asarray(photograph).astype(int))
    assert difference.mean() < 6


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_turned_upright(orientation: int, suffix: str, tmp_path: Path) -> None:
    """What the camera stored is found by turning the upright image back, by EXIF's own words."""
    rows, columns = {
        1: ("top", "left"), 2: ("top", "right"), 3: ("bottom", "right"), 4: ("bottom", "left"),
        5: ("left", "top"), 6: ("right", "top"), 7: ("right", "bottom"), 8: ("left", "bottom"),
    }[orientation]  # fmt: skip
    stored = QUARTERS
    if rows in ("left", "right"):  # EXIF: the 0th stored row is the scene's left or right side
        stored = stored.transpose(1, 0, 2)
    if rows in ("bottom", "right"):
        stored = stored[::-1]
    if columns in ("right", "bottom"):
        stored = stored[:, ::-1]
    exif = Image.Exif()
    exif[0x0112] = orientation
    found = saved(Image.fromarray(stored.copy()), tmp_path / f"turned{suffix}", exif=exif)
    assert found.shape == QUARTERS.shape
    for row, column in [(4, 4), (4, 25), (15, 4), (15, 25)]:
        np.testing.assert_allclose(found[row, column].astype(int), QUARTERS[row, column], atol=40)


def test_a_damaged_tag_does_not_cost_the_image(tmp_path: Path) -> None:
    """A tag of an impossible type beside the orientation: viewers show the image, so do we."""
    path = tmp_path / "tag.jpg"
    exif = Image.Exif()
    exif[0x0112], exif[0x0100] = 6, 20
    Image.fromarray(QUARTERS).save(
        path, exif=exif.tobytes().replace(b"\x01\x00\x00\x04", b"\x01\x00\x00\x02")
    )
    assert decode_image(path).size == (20, 30)


def test_the_first_frame_of_an_animation(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (5, 4), colour) for colour in ("red", "green", "blue")]
    path = tmp_path / "moving.gif"
    frames[0].save(path, save_all=True, append_images=frames[1:])
    assert (np.asarray(decode_image(path)) == (255, 0, 0)).all()


def png(*chunks: bytes) -> bytes:
    """Return a PNG of chunks, each its type and what it holds."""
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in chunks
    )


def png_of_size(width: int, height: int) -> bytes:
    """Return the beginning of a PNG that claims a size; it holds no pixels."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return png(header, b"IDAT" + zlib.compress(b""), b"IEND")


@pytest.mark.parametrize(("bits", "row"), [(2, 0b00_01_10_11), (4, 0x01), (8, 0x01)])
def test_a_transparent_grey_of_few_bits_becomes_white(bits: int, row: int, tmp_path: Path) -> None:
    """The greys 0, 1, ... in a row; 1 is transparent."""
    count, top = 8 // bits, 2**bits - 1
    header = b"IHDR" + struct.pack(">IIBBBBB", count, 1, bits, 0, 0, 0, 0)
    path = tmp_path / "few.png"
    hole = b"tRNS" + struct.pack(">H", 1)
    path.write_bytes(png(header, hole, b"IDAT" + zlib.compress(bytes([0, row])), b"IEND"))
    greys = range(count) if bits < 8 else [1]
    expected = [255 if grey == 1 else grey * 255 // top for grey in greys]
    assert np.asarray(decode_image(path))[0, :, 0].tolist() == expected


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_bombs_are_refused_before_they_are_decoded(tmp_path: Path) -> None:
    path = tmp_path / "bomb.png"
    for side in (MAX_PIXELS // 8000 + 1, 10_000, 60_000):
        path.write_bytes(png_of_size(8000 if side < 10_000 else side, side))
        with pytest.raises(DataError, match="scale it down"):
            decode_image(path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not an image"),
        (b"a letter to a friend\n" * 20, "not an image"),
        (b"\xff\xd8\xff\xe0" + b"\0" * 50, "image"),
        (png_of_size(4, 4), "damaged"),
        (png_of_size(0, 4), "image"),
    ],
)
def test_files_that_are_no_images(content: bytes, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "image.jpg"
    path.write_bytes(content)
    with pytest.raises(DataError, match=reason) as caught:
        decode_image(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_files_and_folders(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        decode_image(tmp_path / "none.jpg")
    with pytest.raises(DataError, match="folder"):
        decode_image(tmp_path)


@pytest.mark.parametrize("share", [0.3, 0.7, 0.98])
def test_truncated_photographs_are_refused(
    share: float, photograph: Image.Image, tmp_path: Path
) -> None:
    stream = io.BytesIO()
    photograph.save(stream, "JPEG")
    path = tmp_path / "cut.jpg"
    path.write_bytes(stream.getvalue()[: int(len(stream.getvalue()) * share)])
    with pytest.raises(DataError, match="truncated"):
        decode_image(path)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "WEBP", "GIF", "PPM"])
def test_damaged_files_decode_or_are_refused(kind: str, tmp_path: Path) -> None:
    exif, stream, draw = Image.Exif(), io.BytesIO(), random.Random(3)
    exif[0x0112], exif[0x010F] = 6, "maker"
    options = {"exif": exif} if kind in ("JPEG", "PNG", "WEBP") else {}
    Image.fromarray(QUARTERS).save(stream, kind, **options)
    path = tmp_path / "damaged"
    for _ in range(150):
        damaged = bytearray(stream.getvalue())
        for _ in range(draw.choice([1, 4])):
            damaged[draw.randrange(min(len(damaged), 400))] = draw.randrange(256)
        path.write_bytes(damaged)
        try:
            mode = decode_image(path).mode
        except DataError:
            continue
        assert mode == "RGB"


def test_decoding_leaves_the_warning_filters_alone(tmp_path: Path) -> None:
    """Folders are decoded by several threads at once."""
    path = tmp_path / "image.png"
    Image.fromarray(QUARTERS).save(path)
    before = list(warnings.filters)
    threads = [
        threading.Thread(target=lambda: [decode_image(path) for _ in range(40)]) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert warnings.filters == before


def ramp(width: int, height: int) -> Image.Image:
    """An image with the column as red and the row as green, in tenths of the size."""
    rows, columns = np.mgrid[:height, :width]
    channels = [columns / width, rows / height, np.zeros((height, width))]
    return Image.fromarray(np.round(np.dstack(channels) * 250).astype(np.uint8))


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("ratio", [1.0, 0.875, 0.5])
@pytest.mark.parametrize(
    "size", [(451, 300), (300, 451), (224, 224), (64, 48), (1, 1), (1, 50), (97, 3)]
)
def test_crops_equal_the_whole_image_resized_and_cut(
    size: tuple[int, int], ratio: float, interpolation: str, photograph: Image.Image
) -> None:
    """The crop is cut from a resized image that is never made; here it is made."""
    image = photograph.resize(size)
    spec = PreprocessingSpec(
        40, 56, interpolation=interpolation, crop_ratio=ratio, pipeline="pillow"
    )
    scale = max(56 / size[0], 40 / size[1]) / ratio
    width, height = max(56, round(size[0] * scale)), max(40, round(size[1] * scale))
    whole = image.resize((width, height), Image.Resampling[interpolation.upper()])
    left, top = (width - 56) // 2, (height - 40) // 2
    expected = np.asarray(whole.crop((left, top, left + 56, top + 40)))
    found = fit_image(image, spec)
    assert found.shape == (40, 56, 3)
    assert found.dtype == np.uint8
    np.testing.assert_allclose(found.astype(int), expected, atol=1)


@pytest.mark.parametrize("ratio", [1.0, 0.8])
def test_crops_are_centred_and_keep_the_aspect(ratio: float) -> None:
    """Each corner shows its own position in the image, independently of Pillow's resizing."""
    found = fit_image(ramp(400, 200), PreprocessingSpec(50, 50, crop_ratio=ratio)) / 250
    half = ratio * 200 / 400 / 2
    np.testing.assert_allclose(found[25, [0, -1], 0], [0.5 - half, 0.5 + half], atol=0.01)
    np.testing.assert_allclose(found[[0, -1], 25, 1], [0.5 - ratio / 2, 0.5 + ratio / 2], atol=0.02)


def test_stretching_shows_the_whole_image_without_regard_for_its_aspect() -> None:
    image = ramp(400, 100)
    found = fit_image(image, PreprocessingSpec(50, 60, resize="stretch"))
    expected = resize(np.asarray(image), (50, 60), order=1, anti_aliasing=True) * 255
    assert found.shape == (50, 60, 3)
    np.testing.assert_allclose(found[2:-2, 2:-2], expected[2:-2, 2:-2], atol=2)


def test_an_image_of_the_right_size_is_left_as_it_is(photograph: Image.Image) -> None:
    for interpolation in ("bilinear", "bicubic"):
        spec = PreprocessingSpec(300, 451, interpolation=interpolation)
        assert np.array_equal(fit_image(photograph, spec), np.asarray(photograph))
        spec = PreprocessingSpec(300, 301, interpolation=interpolation)
        assert np.array_equal(fit_image(photograph, spec), np.asarray(photograph)[:, 75:376])


def test_a_long_thin_image_takes_no_more_memory_than_its_crop() -> None:
    """Resized to cover 224 px in width, this one would have 9 thousand million pixels."""
    image = Image.new("RGB", (1, 180_000), "red")
    assert fit_image(image, PreprocessingSpec(224, 224)).shape == (224, 224, 3)


def test_a_file_becomes_an_array_of_the_models_size(tmp_path: Path) -> None:
    Image.fromarray(QUARTERS).save(tmp_path / "q.png")
    found = load_image(tmp_path / "q.png", PreprocessingSpec(10, 10))
    assert found.shape == (10, 10, 3)
    assert (found[1, 1] == (255, 0, 0)).all()

"""JPEG files decoded at a fraction of their size: close to the whole, or equal if it is needed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gsp_deploy import PreprocessingSpec
from gsp_deploy.data.photographs import photograph
from gsp_deploy.errors import DataError, UsageError
from gsp_deploy.images.decoding import decode_image, decode_reduced
from gsp_deploy.images.files import ImageReader
from gsp_deploy.images.jpeg import decode_reduced_jpeg, read_jpeg
from gsp_deploy.images.preprocessing import load_image
from gsp_deploy.images.reduction import COSINE_TOLERANCE, LARGEST_TOLERANCE, MEAN_TOLERANCE
from gsp_deploy.metrics import unit_rows
from gsp_deploy.runtime import open_session

SPEC = PreprocessingSpec(64, 64)
PIPELINES = [
    {"pipeline": "torchvision"},
    {"pipeline": "timm", "interpolation": "bicubic", "crop_ratio": 0.95},
    {"pipeline": "pillow"},
    {"pipeline": "torchvision", "resize": "stretch"},
    {"pipeline": "timm", "resize": "stretch", "crop_ratio": 0.9},
]


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """One photograph of odd size in every orientation, and one that the model needs whole."""
    folder = tmp_path_factory.mktemp("photographs")
    large = photograph("coffee.png").resize((1237, 827), Image.Resampling.BICUBIC)
    files = [folder / f"{turn}.jpg" for turn in range(1, 9)]
    for turn, file in enumerate(files, 1):
        exif = Image.Exif()
        exif[0x0112] = turn
        large.save(file, quality=92, exif=exif)
    return files


@pytest.mark.parametrize("settings", PIPELINES)
def test_the_pixels_are_close_to_the_whole(settings, photographs: list[Path]) -> None:
    spec = PreprocessingSpec(112, 96, **settings)
    for file in photographs:
        whole = load_image(file, spec).astype(int)
        error = np.abs(load_image(file, spec, reduced=True) - whole)
        assert 0 < error.mean() <= MEAN_TOLERANCE
        assert error.max() <= LARGEST_TOLERANCE


def test_the_embeddings_are_close_to_the_whole(photographs: list[Path]) -> None:
    """The trained models that the repository contains: two of 48 px, and EfficientNet at 112 px."""
    models = sorted((Path(__file__).parents[2] / "models").glob("*.safetensors"))
    assert len(models) == 3
    for model in models:
        with open_session(model) as session:
            spec = session.info.require_preprocessing()
            whole, reduced = (
                unit_rows(
                    session.embed(
                        np.stack([load_image(file, spec, reduced=less) for file in photographs])
                    )
                )
                for less in (False, True)
            )
        distances = 1 - (whole * reduced).sum(axis=1)
        assert 0 < distances.max() <= COSINE_TOLERANCE


def test_what_is_left_of_a_partial_pixel(photographs: list[Path]) -> None:
    """Neither side is a multiple of 4: the last pixels are partial, wherever they are turned."""
    for turn, file in enumerate(photographs, 1):
        found = decode_reduced(file, lambda size: (size[0] // 4, size[1] // 4))
        assert found.size == decode_image(file).size
        ratio = found.size[0] / (found.box[2] - found.box[0])
        assert ratio == found.size[1] / (found.box[3] - found.box[1]) == 4
        assert (found.box[0] > 0, found.box[1] > 0) == (turn in (2, 3, 6, 7), turn in (3, 4, 7, 8))


def test_files_that_are_needed_whole_have_the_same_pixels(tmp_path: Path) -> None:
    small = photograph("chelsea.png").resize((200, 150))
    for name in ("small.jpg", "large.png", "large.webp"):
        image = small if name == "small.jpg" else small.resize((900, 600))
        image.save(tmp_path / name)
        spec = PreprocessingSpec(112, 112) if name == "small.jpg" else SPEC
        expected = load_image(tmp_path / name, spec)
        np.testing.assert_array_equal(load_image(tmp_path / name, spec, reduced=True), expected)


def test_the_decoder_takes_the_smallest_that_is_enough(photographs: list[Path]) -> None:
    file = read_jpeg(photographs[0].read_bytes())
    sizes = {
        least: decode_reduced_jpeg(file, (least, least))[1] for least in (100, 103, 104, 300, 700)
    }
    assert sizes == {100: 8, 103: 8, 104: 4, 300: 2, 700: 1}


def test_a_reader_decodes_reduced(photographs: list[Path]) -> None:
    (batch,) = ImageReader(photographs[:2], SPEC, reduced=True)
    expected = [load_image(file, SPEC, reduced=True) for file in photographs[:2]]
    np.testing.assert_array_equal(batch.images, expected)


def test_what_is_refused(photographs: list[Path], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="opencv resizes without averaging"):
        load_image(photographs[0], PreprocessingSpec(64, 64, pipeline="opencv"), reduced=True)
    with pytest.raises(DataError, match=r"none\.jpg: no such file"):
        load_image(tmp_path / "none.jpg", SPEC, reduced=True)
    (tmp_path / "cut.jpg").write_bytes(photographs[0].read_bytes()[:900])
    with pytest.raises(DataError, match=r"cut\.jpg: damaged image"):
        load_image(tmp_path / "cut.jpg", SPEC, reduced=True)

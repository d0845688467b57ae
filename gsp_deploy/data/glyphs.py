"""Built-in data set of a character among distractor characters on a photograph.

Each character is a class, and training and test use different characters. Typeface, size, rotation,
colour, sharpness, place, distractors and background vary at random. You need matplotlib for its
typefaces and scikit-image for its photographs; both are in the wheels, so nothing is downloaded.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter

from gsp_deploy.data.characters import DISTRACTORS, class_name, class_pool
from gsp_deploy.data.collage import (
    Collage,
    CollageSettings,
    Scene,
    Sticker,
    box_at,
    check_range,
    generated_images,
    generator_of,
    legible_colour,
    places,
)
from gsp_deploy.data.images import Dataset, LabelledImages
from gsp_deploy.data.photographs import Part, background
from gsp_deploy.data.typefaces import glyph, typefaces_of

_RECIPE = 1  # raise this number with every change that gives the same settings other pixels
_LARGEST_TURN = 20.0  # degrees; below the 45 that would turn an arrow into its neighbour
_SIZE_JITTER = 0.15
_STRONGEST_BLUR = 0.8  # pixels at the standard size
_STANDARD_SIZE = 112


@dataclass(frozen=True)
class GlyphSettings(CollageSettings):
    """Settings of the glyph collage; training and test classes are from fixed, disjoint pools."""

    train_classes: int = 300
    test_classes: int = 150

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("train_classes", self.train_classes, 2, len(class_pool("train")))
        check_range("test_classes", self.test_classes, 2, len(class_pool("test")))


@dataclass(frozen=True)
class GlyphCollage(Collage):
    """The images of one part; position `c * images_per_class + k` is image k of class c."""

    settings: GlyphSettings
    part: Part
    characters: tuple[str, ...]

    @property
    def parameters(self) -> Mapping[str, str | int | float]:
        """Return the settings, the part and the version of this recipe."""
        return {
            "kind": "glyphs",
            "recipe": _RECIPE,
            "part": self.part,
            **dataclasses.asdict(self.settings),
        }

    def scene(self, position: int) -> Scene:
        """Return the scene of one image."""
        settings = self.settings
        rng = generator_of(settings.seed, self.part, position)
        chosen = rng.integers(len(DISTRACTORS), size=settings.clutter).tolist()
        characters = [self.characters[position // settings.images_per_class]]
        characters += [DISTRACTORS[i] for i in chosen]
        shapes = [_shape(rng, character, settings) for character in characters]
        corners = places(rng, settings.size, [shape.size for shape in shapes])
        ground = background(rng, self.part, settings.size)
        for shape, corner in zip(shapes[1:], corners[1:], strict=True):
            _coloured(rng, shape, ground, corner).paste_on(ground, corner)
        return Scene(ground, _coloured(rng, shapes[0], ground, corners[0]), corners[0])


def glyph_dataset(settings: GlyphSettings | None = None) -> Dataset:
    """Return the glyph collage; an image is drawn only when you ask for it."""
    chosen = settings or GlyphSettings()
    train = _part(chosen, "train", chosen.train_classes)
    return Dataset("glyphs", train, _part(chosen, "test", chosen.test_classes))


def _part(settings: GlyphSettings, part: Part, count: int) -> LabelledImages:
    characters = tuple(sorted(class_pool(part)[:count], key=class_name))
    return generated_images(
        GlyphCollage(settings, part, characters),
        part,
        tuple(class_name(character) for character in characters),
        settings.images_per_class,
    )


def _shape(rng: np.random.Generator, character: str, settings: GlyphSettings) -> Image.Image:
    """Return a glyph's opacity with random typeface, size, rotation and blur."""
    faces = typefaces_of(character)
    face = faces[rng.integers(len(faces))]
    longer = settings.scale * settings.size * rng.uniform(1 - _SIZE_JITTER, 1 + _SIZE_JITTER)
    turn = rng.uniform(-_LARGEST_TURN, _LARGEST_TURN)
    blur = rng.uniform(0, _STRONGEST_BLUR) * settings.size / _STANDARD_SIZE
    drawn = glyph(character, face, _drawn_extent(longer))
    factor = longer / max(drawn.size)
    extent = (max(2, round(drawn.width * factor)), max(2, round(drawn.height * factor)))
    shape = drawn.resize(extent, Image.Resampling.BILINEAR)
    shape = shape.rotate(turn, Image.Resampling.BILINEAR, expand=True)
    if blur > 0.3:
        shape = shape.filter(ImageFilter.GaussianBlur(blur))
    opacity = np.asarray(shape)
    peak = max(1, int(opacity.max()))
    if peak == 255:
        return shape
    # A blurred hairline has no opaque pixel; scaling its opacity up keeps its colour and its mask.
    return Image.fromarray((opacity * (255 / peak)).round().astype(np.uint8))


def _drawn_extent(longer: float) -> int:
    """Return the power of two at which a glyph is drawn and cached before it is reduced."""
    return 1 << max(4, int(longer - 1).bit_length())


def _coloured(
    rng: np.random.Generator, shape: Image.Image, ground: Image.Image, corner: tuple[int, int]
) -> Sticker:
    return Sticker(shape, legible_colour(rng, ground.crop(box_at(corner, shape.size))))

"""Draw maps as pictures: the image, what the pooling keeps of it, its weights, its prototypes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from PIL import Image, ImageDraw

from gsp_deploy.data.typefaces import typeface_at
from gsp_deploy.explain.maps import PoolingMaps
from gsp_deploy.images.marked import save_picture

TILE = 224
MARGIN = 8
CAPTION = 13
INK, PAPER = (40, 40, 40), (255, 255, 255)
# Brightness of an ignored location, relative to the image.
SHADE = 0.12
# Colours of the prototypes, the heaviest in the image first; the rest are grey. The palette is by
# Okabe & Ito, because colour-blind readers can distinguish its colours.
COLOURS = (
    (0, 114, 178), (230, 159, 0), (0, 158, 115), (213, 94, 0),
    (86, 180, 233), (204, 121, 167), (240, 228, 66),
)  # fmt: skip
REST = (190, 190, 190)


@dataclass(frozen=True)
class MapPicture:
    """One picture of an image's maps, and a short caption."""

    caption: str
    picture: Image.Image


def map_panel(maps: PoolingMaps, index: int, tile: int = TILE) -> Image.Image:
    """Return the pictures of `map_pictures` side by side in one picture."""
    return _side_by_side(map_pictures(maps, index, tile), tile)


def map_pictures(maps: PoolingMaps, index: int, tile: int = TILE) -> list[MapPicture]:
    """Return one image's maps: image, kept regions, weights, prototypes.

    Args:
        maps: the maps of a set of images.
        index: index of the image in `maps`.
        tile: side of each picture, in pixels.
    """
    picture = Image.fromarray(maps.images[index])
    weights = maps.weights[index]
    kept = maps.kept[index]
    parts = [
        MapPicture("image", fit(picture, tile)),
        MapPicture("kept", shade_ignored(picture, kept, tile)),
        MapPicture(f"w {weights.min():.2f}–{weights.max():.2f}", heat(kept, tile)),
    ]
    if (assignments := maps.assignments) is not None:
        parts.append(MapPicture("prototypes", territories(assignments[index], kept, tile)))
    return parts


def write_map_panel(maps: PoolingMaps, index: int, path: Path) -> None:
    """Write `map_panel` to `path` as PNG."""
    save_picture(map_panel(maps, index), path)


def fit(picture: Image.Image, tile: int) -> Image.Image:
    """Return the picture resized to a square tile, because most models take square images."""
    return picture.resize((tile, tile), Image.Resampling.BICUBIC)


def shade_ignored(picture: Image.Image, kept: np.ndarray, tile: int) -> Image.Image:
    """Return the picture with each location as bright as its kept share `(h, w)`.

    Shares are scaled so that the location with the largest share keeps its full brightness.
    """
    strength = Image.fromarray((kept / max(kept.max(), 1e-6)).astype(np.float32))
    smooth = np.asarray(strength.resize((tile, tile), Image.Resampling.BILINEAR))
    pixels = np.asarray(fit(picture, tile)).astype(np.float32)
    lit = pixels * (SHADE + (1 - SHADE) * smooth[:, :, None])
    return Image.fromarray(lit.clip(0, 255).astype(np.uint8))


def heat(kept: np.ndarray, tile: int) -> Image.Image:
    """Return kept shares `(h, w)` as colours, a square per location, dark at 0, bright at 1."""
    colours = colormaps["viridis"](kept, bytes=True)[:, :, :3]
    return Image.fromarray(np.ascontiguousarray(colours)).resize(
        (tile, tile), Image.Resampling.NEAREST
    )


def territories(assignments: np.ndarray, kept: np.ndarray, tile: int) -> Image.Image:
    """Colour each location by the prototype that takes most of it, paler where less is kept.

    Args:
        assignments: `(M, h, w)`, sum 1 over M.
        kept: kept share `(h, w)`.
        tile: side of the picture, in pixels.
    """
    mass = (assignments * kept).sum(axis=(1, 2))
    palette = np.full((len(mass), 3), REST, dtype=np.float32)
    heaviest = np.argsort(-mass, kind="stable")[: len(COLOURS)]
    palette[heaviest] = COLOURS[: len(heaviest)]
    colours = palette[assignments.argmax(axis=0)]
    strength = (kept / max(kept.max(), 1e-6))[:, :, None]
    faded = strength * colours + (1 - strength) * 255
    return Image.fromarray(faded.astype(np.uint8)).resize((tile, tile), Image.Resampling.NEAREST)


def _side_by_side(parts: list[MapPicture], tile: int) -> Image.Image:
    step, font = tile + MARGIN, typeface_at("DejaVuSans", CAPTION)
    size = (len(parts) * step + MARGIN, tile + 2 * MARGIN + CAPTION + 6)
    panel = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(panel)
    for place, part in enumerate(parts):
        left = MARGIN + place * step
        draw.text((left, MARGIN - 2), part.caption, fill=INK, font=font)
        panel.paste(part.picture, (left, MARGIN + CAPTION + 4))
    return panel

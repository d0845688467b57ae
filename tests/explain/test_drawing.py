"""Panels: locations are as bright as their kept share, and coloured by their prototype."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from gsp_deploy.explain import PoolingMaps, map_panel, write_map_panel
from gsp_deploy.explain.drawing import shade_ignored, territories


def halves(prototypes: bool = True) -> PoolingMaps:
    """A white image: the left half is kept; prototype 0 takes the top, prototype 1 the bottom."""
    weights = np.zeros((1, 4, 4), np.float32)
    weights[:, :, :2] = 2
    scores = np.full((1, 2, 4, 4), -30, np.float32)
    scores[0, 0, :2] = scores[0, 1, 2:] = 0
    image = np.full((1, 32, 32, 3), 255, np.uint8)
    return PoolingMaps(image, weights, scores if prototypes else None, 0.5)


def test_what_is_ignored_is_dark() -> None:
    maps = halves()
    lit = np.asarray(shade_ignored(Image.fromarray(maps.images[0]), maps.kept[0], 64))
    assert lit[:, :20].min() == 255
    assert lit[:, 44:].max() < 40


def test_prototypes_have_colours_where_mass_is_kept() -> None:
    maps = halves()
    assert maps.assignments is not None
    map_ = np.asarray(territories(maps.assignments[0], maps.kept[0], 64)).astype(int)
    assert (map_[:, 40:] == 255).all()
    assert np.abs(map_[10, 10] - map_[50, 10]).max() > 50


def test_unknown_mu_is_relative_to_the_largest_weight() -> None:
    maps = halves()
    assert PoolingMaps(maps.images, maps.weights, None, None).kept.max() == 1


def test_a_panel_has_a_picture_for_each_map(tmp_path: Path) -> None:
    assert map_panel(halves(), 0).width > map_panel(halves(prototypes=False), 0).width
    write_map_panel(halves(), 0, tmp_path / "a" / "panel.png")
    with Image.open(tmp_path / "a" / "panel.png") as written:
        assert written.format == "PNG"

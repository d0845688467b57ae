from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from gsp_deploy.data.collage import (
    CollageSettings,
    Scene,
    Sticker,
    box_at,
    colour_of_luma,
    generator_of,
    legible_colour,
    places,
)
from gsp_deploy.data.photographs import PHOTOGRAPHS, TEXTURES, background, photograph
from gsp_deploy.errors import ConfigError


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("clutter", -1),
        ("size", 16),
        ("scale", 0.9),
        ("scale", float("nan")),
        ("images_per_class", 0),
        ("seed", -1),
    ],
)
def test_settings_outside_their_range_are_refused(field: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"{field} must be from .* got {value}"):
        CollageSettings(**{field: value})


def test_each_image_has_a_random_stream_of_its_own() -> None:
    draws = {
        float(generator_of(seed, part, position).random())
        for seed in (0, 1)
        for part in ("train", "test")
        for position in range(20)
    }
    assert len(draws) == 80


extents = st.lists(st.tuples(st.integers(1, 64), st.integers(1, 64)), min_size=1, max_size=12)


@given(st.integers(0, 2**32), extents)
def test_everything_is_placed_inside(seed: int, sizes: list[tuple[int, int]]) -> None:
    corners = places(np.random.default_rng(seed), 64, sizes)
    assert len(corners) == len(sizes)
    for corner, size in zip(corners, sizes, strict=True):
        left, top, right, bottom = box_at(corner, size)
        assert 0 <= left < right <= 64
        assert 0 <= top < bottom <= 64


def test_few_things_do_not_overlap() -> None:
    rng = np.random.default_rng(0)
    covered = np.zeros(200)
    for trial in range(200):
        canvas = np.zeros((100, 100), dtype=int)
        for left, top in places(rng, 100, [(30, 30)] * 4):
            canvas[top : top + 30, left : left + 30] += 1
        covered[trial] = (canvas > 1).sum() / 900
    assert np.mean(covered == 0) > 0.5
    assert covered.mean() < 0.15


def test_places_reach_every_corner_and_no_place_is_preferred() -> None:
    rng = np.random.default_rng(0)
    corners = np.array([places(rng, 10, [(4, 4)])[0] for _ in range(3000)])
    counts = np.zeros((7, 7))
    np.add.at(counts, (corners[:, 0], corners[:, 1]), 1)
    assert counts.min() > 30  # 61 expected; four standard deviations below


@given(st.lists(st.floats(0.01, 0.99), min_size=3, max_size=3), st.floats(0, 1))
def test_a_colour_has_the_brightness_asked_for(hue: list[float], luma: float) -> None:
    colour = colour_of_luma(np.array(hue), luma)
    assert all(0 <= value <= 255 for value in colour)
    grey = np.dot((0.299, 0.587, 0.114), colour) / 255
    assert abs(grey - luma) < 0.01


@given(st.integers(0, 255), st.integers(0, 255), st.integers(0, 2**32))
@settings(max_examples=50)
def test_a_legible_colour_stands_out_from_any_ground(one: int, other: int, seed: int) -> None:
    ground = Image.fromarray(np.full((8, 8, 3), one, dtype=np.uint8))
    ground.paste((other, other, other), (0, 0, 8, 4))
    colour = legible_colour(np.random.default_rng(seed), ground)
    grey = np.dot((0.299, 0.587, 0.114), colour)
    assert abs(grey - (one + other) / 2) > 0.3 * 255


def test_a_scene_pastes_its_object_over_a_copy() -> None:
    ground = Image.new("RGB", (8, 8), (0, 0, 0))
    opacity = Image.fromarray(np.array([[255, 128], [127, 0]], dtype=np.uint8))
    scene = Scene(ground, Sticker(opacity, (200, 100, 0)), (3, 5))
    picture = np.asarray(scene.image())
    assert picture[5, 3].tolist() == [200, 100, 0]
    assert picture[5, 4].tolist() == [100, 50, 0]
    assert picture[6, 4].tolist() == [0, 0, 0]
    assert np.argwhere(scene.object_mask()).tolist() == [[5, 3], [5, 4]]
    assert not np.asarray(ground).any()


def test_photographs_are_in_one_part_only_and_come_from_the_wheel() -> None:
    assert not set(PHOTOGRAPHS["train"]) & set(PHOTOGRAPHS["test"])
    assert set(TEXTURES["train"]) <= set(PHOTOGRAPHS["train"])
    assert set(TEXTURES["test"]) <= set(PHOTOGRAPHS["test"])
    for name in PHOTOGRAPHS["train"] + PHOTOGRAPHS["test"]:
        image = photograph(name)
        assert image.mode == "RGB"
        assert 256 <= max(image.size) <= 512
        assert np.asarray(image).std() > 10


@pytest.mark.parametrize("part", ["train", "test"])
def test_backgrounds_vary_and_leave_room_for_contrast(part: str) -> None:
    rng = np.random.default_rng(0)
    crops = [np.asarray(background(rng, part, 48), dtype=np.float64) for _ in range(40)]
    assert all(crop.shape == (48, 48, 3) for crop in crops)
    means = np.array([crop.mean() for crop in crops])
    assert means.std() > 20
    assert np.median([crop.std() for crop in crops]) > 10

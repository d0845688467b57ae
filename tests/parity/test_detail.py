"""Constant and two-tone images: found by their pixels, and named beside a gate that fails."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from gsp_deploy.parity import compare_sessions
from gsp_deploy.parity.detail import note_on_detail, without_detail

SIZE = 24


def constant() -> np.ndarray:
    return np.full((SIZE, SIZE, 3), (20, 90, 200), np.uint8)


def two_tone() -> np.ndarray:
    image = constant()
    image[:, SIZE // 2 :] = 240
    return image


def photograph() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)


IMAGES = np.stack([constant(), photograph(), two_tone()])


@pytest.mark.parametrize("scale", [None, 1.0, 3.0])
def test_only_constant_and_two_tone_images_have_none(scale: float | None) -> None:
    images = IMAGES
    if scale is not None:  # as a session of normalised images takes them
        images = (scale * (IMAGES.transpose(0, 3, 1, 2) / 127.5 - 1)).astype(np.float32)
    assert without_detail(images).tolist() == [True, False, True]


def test_one_pixel_has_no_neighbours() -> None:
    assert without_detail(np.zeros((2, 1, 1, 3), np.uint8)).tolist() == [False, False]


def test_the_line_counts_them() -> None:
    assert note_on_detail(np.zeros(3, dtype=bool)) is None
    line = note_on_detail(np.array([True, False, True]))
    assert line is not None
    assert line.startswith("2 of 3 images have next to no detail")


@pytest.mark.parametrize("off", [0.0, 0.5])
def test_a_report_says_so_when_a_gate_fails(fake: Callable[..., object], off: float) -> None:
    def honest(images: np.ndarray) -> dict[str, np.ndarray]:
        rows = images.reshape(len(images), -1)[:, :4] / 255.0 + 1
        return {"embedding": rows}

    def wrong(images: np.ndarray) -> dict[str, np.ndarray]:
        found = honest(images)["embedding"].copy()
        found[:, 0] += off
        return {"embedding": found}

    images = np.stack([np.full((6, 6, 3), value, np.uint8) for value in (0, 90, 200)])
    report = compare_sessions(fake(honest), fake(wrong), images)
    assert report.passed is (off == 0)
    assert any("next to no detail" in note for note in report.figures.notes) is (off > 0)

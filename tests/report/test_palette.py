"""Colours and marks: every reader can distinguish them, in light and in dark mode."""

from __future__ import annotations

import re
from importlib.resources import files
from itertools import combinations, pairwise

import numpy as np
import pytest

from gsp_deploy.report.charts.palette import ARTIFACTS, marks_of

STYLE = files("gsp_deploy.report").joinpath("page.css").read_text(encoding="utf-8")
LIGHT, DARK = STYLE.split("@media (prefers-color-scheme: dark)")
# Machado, Oliveira & Fernandes 2009, severity 1, on linear RGB.
VISION = {
    "all cones": np.eye(3),
    "no red cones": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
         [-0.003882, -0.048116, 1.051998]]
    ),
    "no green cones": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
         [-0.011820, 0.042940, 0.968881]]
    ),
}  # fmt: skip
TO_XYZ = np.array(
    [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
)  # fmt: skip


def linear(css: str, name: str) -> np.ndarray:
    """Return a variable of the style sheet as linear RGB `(3,)`."""
    found = re.search(rf"--{name}: #(\w{{6}})", css)
    assert found is not None
    encoded = np.array([int(found[1][i : i + 2], 16) for i in (0, 2, 4)]) / 255
    return np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)


def lab(rgb: np.ndarray) -> np.ndarray:
    """Return linear RGB as CIE L*a*b* under D65."""
    ratios = (TO_XYZ @ rgb.clip(0, 1)) / TO_XYZ.sum(axis=1)
    x, y, z = np.where(ratios > 0.008856, np.cbrt(ratios), 7.787 * ratios + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("vision", VISION)
@pytest.mark.parametrize("css", [LIGHT, DARK], ids=["light", "dark"])
def test_colours_of_artifacts_remain_apart(css: str, vision: str) -> None:
    seen = {name: lab(VISION[vision] @ linear(css, name)) for name in ARTIFACTS}
    for one, other in combinations(ARTIFACTS, 2):
        assert np.linalg.norm(seen[one] - seen[other]) >= 15, (one, other)


@pytest.mark.parametrize("css", [LIGHT, DARK], ids=["light", "dark"])
def test_contrasts_are_those_of_the_accessibility_guidelines(css: str) -> None:
    """WCAG 2.2 asks for a contrast of 4.5 for text and 3 for graphics."""
    luminance = {
        name: float(TO_XYZ[1] @ linear(css, name))
        for name in ("card", "paper", "ink", "soft", "good", "bad", *ARTIFACTS)
    }
    for name, value in luminance.items():
        if name in ("card", "paper"):
            continue
        for ground in (luminance["card"], luminance["paper"]):
            high, low = max(value, ground), min(value, ground)
            assert (high + 0.05) / (low + 0.05) >= (3 if name in ARTIFACTS else 4.5), name


def test_twenty_artifacts_have_twenty_marks() -> None:
    marks = list(marks_of([f"model-{k}" for k in range(20)]).values())
    assert len(set(marks)) == 20
    for one, other in pairwise(marks):
        assert one.variable != other.variable
        assert one.shape != other.shape


def test_swatches_are_polygons_within_their_box() -> None:
    for mark in marks_of("abcdefgh").values():
        points = re.findall(r"(-?[\d.]+),(-?[\d.]+)", str(mark.swatch))
        corners = np.array(points, dtype=float)
        assert len(corners) >= 3
        assert abs(corners).max() == pytest.approx(5, abs=0.1)

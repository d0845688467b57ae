"""The float64 reference against another root finder, the laws of the problem, and the authors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.special import expit, logsumexp

from gsp_deploy.reference import (
    SMALLEST_SHARE_SPREAD,
    exact_weights,
    log_mass_of,
    relative_weight_error,
)

GOLDEN = sorted((Path(__file__).parent / "golden").glob("pytorch_*k100.npz"))


def brent_weights(log_mass: np.ndarray, ratio: float) -> np.ndarray:
    """Solve each image by Brent's method on a bracket of its own."""
    found = []
    for image in log_mass:

        def excess(beta: float, image: np.ndarray = image) -> float:
            return float(expit(beta + image).mean() - ratio)

        reach = np.abs(image).max() + 100
        found.append(expit(brentq(excess, -reach, reach, xtol=1e-14, rtol=1e-14) + image) / ratio)
    return np.array(found)


def cases() -> list[np.ndarray]:
    draw = np.random.default_rng(0)
    outlier = np.full((1, 30), -3.0)
    outlier[0, 7] = 40
    return [
        draw.standard_normal((4, 49)),
        20 * draw.standard_normal((4, 49)),
        np.full((1, 9), 1.7),
        outlier,
        -outlier,
        np.repeat([[-40.0, 40.0]], 12, axis=1),
        np.array([[5.0]]),
    ]


@pytest.mark.parametrize("ratio", [0.01, 0.3, 0.5, 0.9, 0.999])
def test_weights_equal_another_root_finders(ratio: float) -> None:
    for log_mass in cases():
        found = exact_weights(log_mass, ratio)
        np.testing.assert_allclose(found, brent_weights(log_mass, ratio), rtol=1e-9, atol=1e-10)
        np.testing.assert_allclose(found.mean(axis=1), 1, rtol=1e-12)
        assert (found > 0).all()
        assert (found <= 1 / ratio + 1e-12).all()


def test_a_common_shift_changes_nothing() -> None:
    log_mass = cases()[0]
    for shift in (-300.0, 1e-3, 300.0):
        np.testing.assert_allclose(
            exact_weights(log_mass + shift, 0.3), exact_weights(log_mass, 0.3), atol=1e-10
        )


def test_keeping_everything_weighs_everything_alike() -> None:
    assert (exact_weights(cases()[1], 1.0) == 1).all()


def test_more_mass_makes_a_heavier_location() -> None:
    log_mass = np.sort(cases()[0], axis=1)
    assert (np.diff(exact_weights(log_mass, 0.3), axis=1) >= 0).all()


def test_log_masses_are_those_of_the_definition() -> None:
    draw = np.random.default_rng(1)
    points, prototypes = 2 * draw.random((3, 6, 5)), 2 * draw.random((4, 6))
    prototypes[0] /= 9  # inside the unit ball: left as it is
    found = log_mass_of(points.astype(np.float32), prototypes, 7.0)
    for image in range(3):
        for location in range(5):
            point = points[image, :, location].astype(np.float32).astype(np.float64)
            point /= max(1, np.linalg.norm(point))
            anchors = [p / max(1, np.linalg.norm(p)) for p in prototypes]
            costs = np.array([np.linalg.norm(p - point) for p in anchors])
            assert found[image, location] == pytest.approx(logsumexp(-7 * costs), rel=1e-12)


def test_underflow_does_not_lose_a_location() -> None:
    points, prototypes = np.zeros((1, 2, 1)), np.array([[2.0, 0.0]])
    assert log_mass_of(points, prototypes, 5000.0)[0, 0] == pytest.approx(-5000)


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_weights_equal_what_the_authors_recorded(path: Path) -> None:
    case = np.load(path)
    features = case["features"].astype(np.float64).reshape(2, 24, -1)
    embeddings = np.einsum("dc,bcn->bdn", case["embed_weight"], features)
    embeddings += case["embed_bias"][:, None]
    log_mass = log_mass_of(embeddings, case["prototypes"], float(case["entropy_weight"]))
    found = exact_weights(log_mass, float(case["transport_ratio"]))
    expected = case["weights"].reshape(2, -1)
    assert np.abs(found - expected).max() / np.abs(expected).max() < 1e-5


def test_weight_errors_are_relative_to_each_images_own_spread() -> None:
    exact = np.array([[0.0, 2.0, 1.0], [0.9, 1.1, 1.0]])
    found = exact + np.array([[0.0, 0.1, 0.0], [0.05, 0.0, 0.0]])
    np.testing.assert_allclose(relative_weight_error(found, exact, 0.5), [0.1 / 2, 0.05 / 0.2])


def test_less_of_a_spread_than_rounding_counts_as_that() -> None:
    flat = np.ones((1, 2, 2))
    error = relative_weight_error(flat + 1e-6, flat, 0.5)
    np.testing.assert_allclose(error, 1e-6 / (SMALLEST_SHARE_SPREAD / 0.5), rtol=1e-6)


def test_a_weight_that_is_no_number_is_infinitely_wrong() -> None:
    found = np.array([[1.0, np.nan], [0.9, 1.1]])
    assert relative_weight_error(found, np.array([[0.5, 1.5], [0.9, 1.1]]), 0.3).tolist() == [
        np.inf,
        0.0,
    ]

"""Errors image by image: their definitions, and the traps that a plain tolerance falls into."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from gsp_deploy.config import GSPConfig
from gsp_deploy.errors import UsageError
from gsp_deploy.metrics import cosine_distances
from gsp_deploy.parity.comparison import (
    mixing_weight_errors,
    output_errors,
    smallest_share_spread,
)
from gsp_deploy.parity.distribution import Distribution
from gsp_deploy.precision import TOLERANCES, tolerances_for

DRAW = np.random.default_rng(1)


def test_errors_are_the_largest_of_each_image_and_relative_to_its_largest_entry() -> None:
    reference = np.array([[1.0, -4.0], [10.0, 0.0]])
    candidate = np.array([[1.5, -4.0], [10.0, 0.2]])
    errors = output_errors("embedding", reference, candidate)
    np.testing.assert_allclose(errors.absolute.values, [0.5, 0.2])
    np.testing.assert_allclose(errors.relative.values, [0.125, 0.02])
    assert errors.non_finite == 0
    assert errors.absolute.worst_image == 0


def test_cosine_distance_is_one_minus_the_cosine() -> None:
    a, b = DRAW.standard_normal((2, 50, 16))
    cosines = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    np.testing.assert_allclose(cosine_distances(a, b), 1 - cosines, atol=1e-12)


def test_cosine_distance_does_not_round_small_angles_away() -> None:
    """1 - cos in float32 knows nothing below 6e-8; here half the squared angle must come out."""
    angle = 1e-9
    a = np.array([[1.0, 0.0]])
    b = np.array([[np.cos(angle), np.sin(angle)]])
    assert cosine_distances(a, b).max() == pytest.approx(angle**2 / 2, rel=1e-6)


def test_cosine_distance_ignores_length_and_survives_zero() -> None:
    a = DRAW.standard_normal((3, 8))
    assert cosine_distances(a, 7 * a).max() < 1e-30


def test_a_vector_of_zeros_equals_zeros_and_nothing_else() -> None:
    zeros, one = np.zeros((1, 8)), np.full((1, 8), 3e-39, np.float32)
    assert cosine_distances(zeros, zeros) == 0
    assert cosine_distances(zeros, one) == cosine_distances(one, zeros) == 1
    assert cosine_distances(one, one) == 0
    assert np.isnan(cosine_distances(one, one * np.nan))


def test_weights_are_held_against_their_spread() -> None:
    """gamma = 0.1: weights from 0.99 to 1.01. An error of 2e-3 looks small and is a tenth of it."""
    reference = np.linspace(0.99, 1.01, 49).reshape(1, 7, 7)
    candidate = reference.copy()
    candidate[0, 3, 3] += 2e-3
    errors = mixing_weight_errors(reference, candidate)
    assert errors.spread.maximum == pytest.approx(0.02)
    assert errors.relative.maximum == pytest.approx(0.1)
    assert output_errors("weights", reference, candidate).relative.maximum < 2.1e-3
    assert errors.relative.maximum > TOLERANCES["fp16"].max_weight_error


def test_weights_without_spread_have_a_floor_to_be_held_against() -> None:
    reference = np.ones((1, 4, 4))
    errors = mixing_weight_errors(reference, reference + 1e-7)
    assert errors.relative.maximum == pytest.approx(1e-7 / 4e-3)
    head = GSPConfig(4, transport_ratio=0.5, entropy_weight=0.01)
    half = mixing_weight_errors(reference, reference + 1e-7, head)
    assert half.relative.maximum == pytest.approx(0.5e-7 / 4e-3)


@pytest.mark.parametrize("spread", [1e-3, 0.02, 0.5])
def test_an_image_of_locations_alike_is_held_against_the_heads_own_spread(spread: float) -> None:
    """A constant image: the same error that a photograph's weights may have does not fail it."""
    head = GSPConfig(4, transport_ratio=0.3, entropy_weight=5.0)
    reference = 1 + spread * np.linspace(-0.5, 0.5, 16).reshape(1, 4, 4)
    errors = mixing_weight_errors(reference, reference + 0.03, head)
    assert errors.relative.maximum == pytest.approx(0.03 * 0.3 / (0.2 * np.tanh(2.5)))
    assert errors.relative.maximum < TOLERANCES["fp16"].max_weight_error
    wide = 1 + 3 * (reference - 1) / spread
    of_detail = mixing_weight_errors(wide, wide + 0.03, head)
    assert of_detail.relative.maximum == pytest.approx(0.01)


def test_an_output_near_zero_is_held_against_what_is_usual() -> None:
    reference = np.ones((5, 3))
    reference[2] = 1e-12
    found = reference + 1e-6
    errors = output_errors("embedding", reference, found)
    np.testing.assert_allclose(errors.relative.values, [1e-6, 1e-6, 1e-4, 1e-6, 1e-6])
    assert output_errors("embedding", reference[2:3], found[2:3]).relative.maximum > 1e5


def test_marginal_errors_are_of_each_side() -> None:
    reference = np.ones((2, 2, 2))
    errors = mixing_weight_errors(reference, reference * np.array([1.0, 0.9])[:, None, None])
    assert errors.reference_marginal.maximum == 0
    np.testing.assert_allclose(errors.candidate_marginal.values, [0, 0.1])


@pytest.mark.parametrize("broken", [np.nan, np.inf])
def test_what_is_not_finite_is_the_largest_error(broken: float) -> None:
    reference = np.ones((3, 4))
    candidate = reference.copy()
    candidate[1, 2] = broken
    errors = output_errors("embedding", reference, candidate)
    assert errors.non_finite == 1
    assert errors.absolute.values.tolist() == [0, np.inf, 0]
    assert Distribution(cosine_distances(reference, candidate)).maximum == np.inf
    assert mixing_weight_errors(reference, candidate).relative.maximum == np.inf
    assert errors.to_dict()["absolute"]["max"] is None  # JSON has no infinity


def test_a_reference_that_is_not_finite_is_no_measure_of_the_others() -> None:
    reference = np.ones((4, 3))
    reference[:2] = [[np.inf], [np.nan]]
    reference[2] = 1e-9
    errors = output_errors("embedding", reference, np.nan_to_num(reference, posinf=0) + 1e-6)
    usual = (1 + 1e-9) / 2  # the median of the two finite ones
    assert errors.relative.values[2:] == pytest.approx([1e-4 / usual, 1e-6])
    nothing = output_errors("embedding", reference[:2], reference[:2])
    assert nothing.relative.maximum == np.inf
    assert nothing.non_finite == 6
    zeros = np.zeros((2, 3))
    assert output_errors("embedding", zeros, zeros).relative.maximum == 0


def test_the_smallest_spread_is_that_of_the_head_or_the_floor() -> None:
    assert smallest_share_spread(None) == 4e-3
    assert smallest_share_spread(GSPConfig(8, entropy_weight=0.01)) == 4e-3
    wide = smallest_share_spread(GSPConfig(8, entropy_weight=2.0))
    assert wide == pytest.approx(0.2 * np.tanh(1.0))


def test_errors_as_data() -> None:
    reference = np.array([[[1.0, 1.2], [0.8, 1.0]]])
    errors = mixing_weight_errors(reference, reference * 1.1)
    data = errors.to_dict()
    assert data["relative_to_spread"] == errors.relative.to_dict()
    assert data["median_spread"] == pytest.approx(0.4)
    assert data["reference_marginal_error"] == pytest.approx(0, abs=1e-15)
    assert data["candidate_marginal_error"] == pytest.approx(0.1)
    outputs = output_errors("embedding", reference, reference * 1.1)
    assert outputs.name == "embedding"
    assert outputs.to_dict() == {
        "absolute": outputs.absolute.to_dict(),
        "relative": outputs.relative.to_dict(),
        "non_finite": 0,
    }


def test_a_distribution_gives_observed_values_and_counts_by_decade() -> None:
    errors = Distribution(np.array([*np.full(98, 1e-5), 2e-3, np.inf]))
    assert errors.median == 1e-5
    assert errors.tail == np.inf  # the second worst of a hundred is not beyond 99 % of them
    assert Distribution(errors.values[:-1]).tail == 2e-3
    edges, counts = errors.histogram()
    assert counts.sum() == 100
    assert counts[np.searchsorted(edges, 1e-5, side="right")] == 98
    assert counts[-1] == 1


def test_tolerances_follow_precision_and_can_be_replaced_one_by_one() -> None:
    limits = tolerances_for("fp16", {"max_flips": 0.0, "max_leak": None})
    assert limits.max_flips == 0
    assert limits.max_leak == TOLERANCES["fp16"].max_leak


def test_a_precision_without_limits_is_refused_and_never_takes_those_of_another() -> None:
    with pytest.raises(UsageError, match="no limits for the precision 'fp4'"):
        tolerances_for("fp4")


def test_lower_precision_is_never_allowed_less() -> None:
    ladder = [vars(TOLERANCES[precision]) for precision in ("fp32", "fp16", "bf16", "int8")]
    for finer, coarser in pairwise(ladder):
        for name, limit in finer.items():
            if name.startswith("min_"):
                assert coarser[name] <= limit
            else:
                assert coarser[name] >= limit


@pytest.mark.parametrize(
    ("overrides", "message"),
    [({"max_flop": 1.0}, "no limit 'max_flop'"), ({"max_flips": -0.1}, "at least 0, got -0.1")],
)
def test_limits_that_make_no_sense_are_refused(overrides: dict[str, float], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        tolerances_for("fp32", overrides)

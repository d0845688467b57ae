"""The edges of a gate: what is just within, just beyond, not a number, and the wrong way round."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from gsp_deploy.metrics import RetrievalMetrics
from gsp_deploy.parity.comparison import OutputErrors
from gsp_deploy.parity.distribution import Distribution
from gsp_deploy.parity.gates import (
    Gate,
    _output_gates,
    _retrieval_gates,
    at_least_one_image,
    figure,
)
from gsp_deploy.parity.retrieval import RetrievalAgreement
from gsp_deploy.precision import tolerances_for


@pytest.mark.parametrize("name", ["max_flips", "min_overlap", "finite"])
@pytest.mark.parametrize("limit", [0.0, 0.5, math.inf])
def test_not_a_number_passes_no_gate(name: str, limit: float) -> None:
    assert not Gate(name, "x", math.nan, limit).passed


@pytest.mark.parametrize(
    ("name", "value", "limit", "passes"),
    [
        ("max_x", 0.1 + 0.2, 0.3, True),  # three tenths, computed in two ways
        ("max_x", 0.3 * (1 + 1e-8), 0.3, False),
        ("min_x", 0.3, 0.1 + 0.2, True),
        ("min_x", 0.3 * (1 - 1e-8), 0.3, False),
        ("max_x", 1e-300, 0.0, False),
        ("max_x", math.inf, 1e300, False),
    ],
)
def test_the_slack_is_for_rounding_alone(
    name: str, value: float, limit: float, passes: bool
) -> None:
    assert Gate(name, "x", value, limit).passed is passes


def agreement(before: float, after: float) -> RetrievalAgreement:
    def metrics(value: float) -> RetrievalMetrics:
        return RetrievalMetrics({1: value}, value, value, 1000)

    return RetrievalAgreement({1: 1.0, 10: 1.0}, 0, 1000, 0.0, metrics(before), metrics(after))


@pytest.mark.parametrize(
    ("before", "after", "passes"), [(0.5, 0.9, True), (0.9, 0.5, False), (0.5, 0.5, True)]
)
def test_a_rise_is_no_drop(before: float, after: float, passes: bool) -> None:
    figures: Any = SimpleNamespace(retrieval=agreement(before, after))
    gates = {gate.name: gate for gate in _retrieval_gates(figures, tolerances_for("fp32"))}
    for name in ("max_recall_drop", "max_map_drop"):
        assert gates[name].passed is passes
        assert gates[name].value == pytest.approx(max(0.0, before - after))


@pytest.mark.parametrize("share", [0.0, 0.01])
def test_a_share_allows_one_image_unless_it_is_zero(share: float) -> None:
    assert at_least_one_image(share, 50) == (0.02 if share else 0)
    assert at_least_one_image(share, 200) == share


def errors(name: str, relative: float, non_finite: int = 0) -> OutputErrors:
    return OutputErrors(
        name, Distribution(np.array([9.0])), Distribution(np.array([0.0, relative])), non_finite
    )


@pytest.mark.parametrize("with_weights", [False, True])
def test_each_figure_is_held_to_its_own_limit(with_weights: bool) -> None:
    limits = tolerances_for("fp16")
    weights = SimpleNamespace(
        relative=Distribution(np.array([0.25, 0.5])),
        candidate_marginal=Distribution(np.array([0.125, 0.0])),
    )
    figures: Any = SimpleNamespace(
        outputs=(errors("attributes", 2.0), errors("embedding", 3.0, 1), errors("weights", 4.0)),
        cosine=Distribution(np.array([0.0, 5.0])),
        weights=weights if with_weights else None,
        invariance=SimpleNamespace(position_error=6.0, leak=7.0),
    )
    found = {gate.name: gate for gate in _output_gates(figures, limits)}
    expected = {
        "max_cosine_distance": 5.0, "max_embedding_error": 3.0, "max_attribute_error": 2.0,
        "max_batch_error": 6.0, "max_leak": 7.0,
    }  # fmt: skip
    if with_weights:
        expected |= {"max_weight_error": 0.5, "max_marginal_error": 0.125}
    assert (found["finite"].value, found.pop("finite").limit) == (1, 0)
    assert {name: gate.value for name, gate in found.items()} == expected
    assert {name: gate.limit for name, gate in found.items()} == {
        name: getattr(limits, name) for name in expected
    }


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0.0, "0"), (math.inf, "inf"), (math.nan, "nan"), (0.001, "0.001"), (-0.25, "-0.25"),
        (0.0009876, "9.9e-04"), (-0.0009876, "-9.9e-04"), (12.345, "12.3"), (1e4, "1.0e+04"),
        (23456.0, "2.3e+04"), (9990.0, "9.99e+03"),
    ],
)  # fmt: skip
def test_a_figure_has_as_many_digits_as_its_size_needs(value: float, words: str) -> None:
    assert figure(value) == words


def test_a_gate_in_words_and_as_data() -> None:
    most, least = Gate("max_x", "x", 0.031, 0.005), Gate("min_y", "y", 0.5, 0.9)
    assert str(most) == "x 0.031, expected at most 0.005"
    assert str(least) == "y 0.5, expected at least 0.9"
    for gate in (most, least, Gate("max_x", "x", 1.0, 2.0)):
        assert Gate.from_dict(gate.to_dict()) == gate
        assert gate.to_dict()["passed"] is gate.passed


@pytest.mark.parametrize(("name", "worst"), [("max_x", math.inf), ("min_x", -math.inf)])
def test_a_value_that_json_cannot_hold_comes_back_as_the_worst(name: str, worst: float) -> None:
    data = Gate(name, "x", math.nan, math.inf).to_dict()
    assert (data["value"], data["limit"], data["passed"]) == (None, None, False)
    gate = Gate.from_dict(data)
    assert (gate.value, gate.limit) == (worst, math.inf)

"""The edges of a gate: what is just within, just beyond, not a number, and the wrong way round."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest

from gsp_deploy.metrics import RetrievalMetrics
from gsp_deploy.parity.gates import Gate, _retrieval_gates
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

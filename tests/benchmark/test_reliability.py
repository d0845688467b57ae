"""Warnings about figures follow from the load and from the spread of the ratios' quartiles."""

from __future__ import annotations

import numpy as np
import pytest

from gsp_deploy.benchmark.reliability import BUSY, NOISY, trust_notes
from gsp_deploy.benchmark.report import PoolingCost

CORES = 4


def cost(spread: float) -> PoolingCost:
    """Return ratios with quartiles that differ by the factor `spread`."""
    twin = np.ones(101)
    found = PoolingCost.of(twin * np.geomspace(1, spread**2, 101), twin)
    assert found.ratio_high / found.ratio_low == pytest.approx(spread)
    return found


TIGHT, WIDE = cost(1.1), cost(NOISY * 1.5)


@pytest.mark.parametrize(
    ("load", "costs", "said"),
    [
        (None, [], None),
        (0.9 * BUSY * CORES, [TIGHT], None),
        (BUSY * CORES, [TIGHT], "ratios are reliable, their quartiles are at most 10 % apart"),
        (BUSY * CORES, [], "milliseconds may be too long; measure again"),
        (0.0, [TIGHT, WIDE], "rounds differ too much to trust milliseconds or ratios"),
        (0.0, [cost(210)], "quartiles are up to 210.0 times apart; measure again"),
        (9.5, [WIDE], "was busy before the run (load 9.5 on 4 cores): rounds differ too much"),
    ],
)
def test_advice_follows_from_load_and_spread(load, costs, said: str | None) -> None:
    notes = trust_notes(load, CORES, costs)
    assert len(notes) == (said is not None)
    assert said is None or said in notes[0]
    assert not notes or ("busy" in notes[0]) == (load >= BUSY * CORES)

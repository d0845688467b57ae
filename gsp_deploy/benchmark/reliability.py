"""Warn if a benchmark's figures may be unreliable: a busy machine, or rounds that differ a lot."""

from __future__ import annotations

from collections.abc import Sequence

from gsp_deploy.base.words import counted
from gsp_deploy.benchmark.report import PoolingCost

# A load above this share of the cores before the run counts as busy.
BUSY = 0.5
# Quartiles further apart than this factor are noisy. On an idle machine those of the demo's ratios
# are 1.04 to 1.09 times apart.
NOISY = 1.3


def trust_notes(load: float | None, cores: int, costs: Sequence[PoolingCost]) -> list[str]:
    """Return warnings about the figures; empty if there is no reason to doubt them.

    Args:
        load: load average before the run; None if the system does not report it.
        cores: number of cores of the machine.
        costs: the measured ratios, with their quartiles.
    """
    is_busy = load is not None and load >= BUSY * cores
    apart = max((cost.ratio_high / cost.ratio_low for cost in costs), default=1.0)
    if not is_busy and apart <= NOISY:
        return []
    why = f"the machine was busy before the run (load {load:.1f} on {counted(cores, 'core')}): "
    return [(why if is_busy else "") + _advice(apart, bool(costs))]


def _advice(apart: float, has_ratios: bool) -> str:
    if apart > NOISY:
        return (
            f"rounds differ too much to trust milliseconds or ratios: their quartiles are up to "
            f"{apart:,.1f} times apart; measure again when the machine is idle"
        )
    if not has_ratios:
        return "milliseconds may be too long; measure again when it is idle"
    return (
        "milliseconds may be too long; the ratios are reliable, their quartiles are at most "
        f"{100 * (apart - 1):.0f} % apart"
    )

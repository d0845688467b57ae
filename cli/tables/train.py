"""Show the results of training: one run, or several seeds of one recipe."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gsp_deploy_cli.tables import show

if TYPE_CHECKING:
    from gsp_deploy.training import TrainingResult

METRICS = {"recall_at_1": "R@1", "map_at_r": "MAP@R"}


def report(result: TrainingResult, json: bool) -> None:
    """Show one run."""
    if json:
        show.document("train", _document(result))
        return
    early = ", stopped early" if result.stopped_early else ""
    rows = [
        ("steps", f"{result.steps:,} of {result.total_steps:,}{early}"),
        ("last", str(result.folder / "last.safetensors")),
    ]
    if result.best_step:
        figures = result.best_metrics
        rows += [
            ("best", f"{result.folder / 'best.safetensors'}, step {result.best_step:,}"),
            ("validation", f"R@1 {figures['recall_at_1']:.3f}, MAP@R {figures['map_at_r']:.3f}"),
        ]
    show.facts(str(result.folder), rows)


def report_seeds(folder: Path, results: Mapping[int, TrainingResult], json: bool) -> None:
    """Show the best validation of each seed, and their mean and standard deviation."""
    spreads = {name: _spread(name, results) for name in METRICS}
    if json:
        runs = {str(seed): _document(result) for seed, result in results.items()}
        show.document("train-seeds", {"folder": str(folder), "runs": runs, "metrics": spreads})
        return
    rows = [
        (f"seed {seed}", *(_figure(result.best_metrics.get(name)) for name in METRICS))
        for seed, result in results.items()
    ]
    means = (f"{s['mean']:.3f} +- {s['deviation']:.3f}" if s else "-" for s in spreads.values())
    show.table(str(folder), ("", *METRICS.values()), [*rows, ("mean +- deviation", *means)])


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _spread(name: str, results: Mapping[int, TrainingResult]) -> dict[str, float] | None:
    """Return mean and sample deviation of a metric; None if a run validated nothing."""
    values = [result.best_metrics.get(name) for result in results.values()]
    found = [value for value in values if value is not None]
    if len(found) < len(values):
        return None
    deviation = statistics.stdev(found) if len(found) > 1 else 0.0
    return {"mean": statistics.fmean(found), "deviation": deviation}


def _document(result: TrainingResult) -> dict[str, Any]:
    best, last = result.folder / "best.safetensors", result.folder / "last.safetensors"
    return {
        "folder": str(result.folder),
        "best": str(best) if result.best_step else None,
        "last": str(last),
        "steps": result.steps,
        "total_steps": result.total_steps,
        "best_step": result.best_step,
        "best_metrics": result.best_metrics,
        "last_metrics": result.last_metrics,
        "interrupted": result.interrupted,
        "stopped_early": result.stopped_early,
    }

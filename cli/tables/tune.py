"""Print what `gsp-deploy tune` measured: each form's accuracy and latency, and the choice."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gsp_deploy.base.words import drop_in_words
from gsp_deploy_cli.tables import show

if TYPE_CHECKING:
    from gsp_deploy.tuning import Point, Tuning


def show_tuning(
    tuning: Tuning,
    figure: Path,
    json: bool,
    chosen: Point | None = None,
    output: Path | None = None,
) -> None:
    """Print what was measured, and what was chosen and written, if anything was."""
    if json:
        show.document("tune", {**tuning.to_dict(), **_choice(chosen, output), "figure": figure})
        return
    _tables(tuning, chosen)
    for name, reason in tuning.study.failures.items():
        show.remark(f"{name} could not be measured: {reason}")
    for note in (*tuning.notes, *doubts_of(chosen)):
        show.remark(note)
    rows = [("figure", str(figure)), ("study", str(tuning.study.folder))]
    if chosen is not None:
        rows.insert(0, ("chosen", _in_words(chosen)))
        if chosen.candidate.runtime == "openvino":
            rows.insert(1, ("run it with", "--runtime openvino"))
    if output is not None:
        rows.append(("written", f"{output} and {output.name}.json, {output.name}.tune.json"))
    show.facts(str(tuning.checkpoint), rows)


def _tables(tuning: Tuning, chosen: Point | None) -> None:
    for batch in sorted({point.batch for point in tuning.points}):
        timed = [p for p in tuning.points if p.batch == batch and p.latency_ms is not None]
        show.table(
            f"Batch {batch}: MAP@R in points, latency of one inference in ms",
            ("form", "MAP@R", "drop", "ms", "x fp32, quartiles", "front"),
            [_row(point, point in tuning.front, point == chosen) for point in timed],
        )
    emulated = {p.candidate: p for p in tuning.points if p.latency_ms is None}
    if emulated:
        show.table(
            "Emulated on this device: accuracy alone",
            ("form", "MAP@R", "drop"),
            [(p.form, *_accuracy(p)) for p in emulated.values()],
        )


def _row(point: Point, on_front: bool, is_chosen: bool) -> tuple[str, ...]:
    mark = "chosen" if is_chosen else "*" if on_front else ""
    speed = point.speed
    assert speed is not None  # it was timed
    quartiles = f"{speed.ratio:.2f} {speed.ratio_low:.2f}-{speed.ratio_high:.2f}"
    return (point.form, *_accuracy(point), f"{point.latency_ms:.3g}", quartiles, mark)


def _accuracy(point: Point) -> tuple[str, str]:
    return f"{point.map_at_r:.2f}", f"{point.drop:+.2f}"


def _in_words(point: Point) -> str:
    return (
        f"{point.form}, batch {point.batch}: {point.latency_ms:.3g} ms "
        f"({point.images_per_second:.4g} images/s), MAP@R {point.map_at_r:.2f}, "
        + drop_in_words(point.drop)
    )


def doubts_of(chosen: Point | None) -> Iterator[str]:
    """Yield reasons why an idle machine might lead to another choice."""
    from gsp_deploy.benchmark.reliability import NOISY

    if chosen is None or chosen.speed is None:
        return
    apart = chosen.speed.ratio_high / chosen.speed.ratio_low
    if apart > NOISY:
        yield (
            f"the quartiles of the chosen form's latency are {apart:,.1f} times apart: it may be "
            "chosen by noise; measure again when the machine is idle"
        )


def _choice(chosen: Point | None, output: Path | None) -> dict[str, Any]:
    return {
        "chosen": None if chosen is None else asdict(chosen),
        "output": None if output is None else str(output),
    }

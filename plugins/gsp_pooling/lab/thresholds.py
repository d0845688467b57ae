"""Choose the thresholds between plans by the lab's measurements, and write them into the source.

    python thresholds.py lab.json            shows them, and what they cost against the best plan
    python thresholds.py lab.json --write    writes them to ../gsp_pooling_params.cpp

The report is what the lab writes with `--json`, or the proof.json that contains it.

`choose_plan` takes a cluster while an image's multiply-adds are below `kLargeImage`, and splits an
image from `kSmallImage` on. Both are taken from the measured sizes, so that the sum of the chosen
plans' times, each relative to the best plan of its shape, is least.
"""

from __future__ import annotations

import argparse
import itertools
import json
import re
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PARAMS = Path(__file__).resolve().parents[1] / "gsp_pooling_params.cpp"
CLUSTER_BLOCKS = 8
NEVER = 1_000_000_000  # more work than any measured image has


@dataclass(frozen=True)
class Shape:
    """One measured shape: its batch, an image's multiply-adds, and microseconds by plan."""

    batch: int
    work: int
    microseconds: Mapping[str, float]


@dataclass(frozen=True)
class Thresholds:
    """Multiply-adds of an image from which it is split, and from which it takes no cluster."""

    small: int
    large: int

    def choose(self, shape: Shape, multiprocessors: int) -> str:
        """Return the plan, by the rules of `choose_plan`."""
        fits = "cluster" in shape.microseconds and CLUSTER_BLOCKS * shape.batch <= multiprocessors
        if fits and shape.work < self.large:
            return "cluster"
        half_idles = 2 * shape.batch <= multiprocessors
        return "split" if half_idles and shape.work >= self.small else "block"

    def cost(self, shapes: Sequence[Shape], multiprocessors: int) -> float:
        """Return the mean time of the chosen plans, relative to the best plan of each shape."""
        ratios = [
            shape.microseconds[self.choose(shape, multiprocessors)]
            / min(shape.microseconds.values())
            for shape in shapes
        ]
        return sum(ratios) / len(ratios)


def shapes_of(report: Mapping[str, Any]) -> list[Shape]:
    """Return the shapes of a lab report: runs with a flushed cache, by the certified solver."""
    found: dict[tuple[Any, ...], dict[str, float]] = defaultdict(dict)
    for row in report["timings"]:
        if row["l2"] == "flushed" and row["solver"] == "certified":
            work = row["locations"] * row["embedding_dim"] * row["prototypes"]
            key = (row["batch"], work, row["input"], row["layout"])
            found[key][row["plan"]] = row["p50_us"]
    return [Shape(batch, work, plans) for (batch, work, *_), plans in found.items()]


def best_thresholds(shapes: Sequence[Shape], multiprocessors: int) -> Thresholds:
    """Return the thresholds of least cost; of equal ones, those that split and cluster least."""
    works = sorted({shape.work for shape in shapes})
    candidates = [*works, NEVER]
    pairs = (Thresholds(*pair) for pair in itertools.product(candidates, candidates))
    return min(pairs, key=lambda t: (t.cost(shapes, multiprocessors), -t.small, t.large))


def written(source: str, thresholds: Thresholds) -> str:
    """Return the source with these thresholds in place of its own."""
    for name, value in (("kSmallImage", thresholds.small), ("kLargeImage", thresholds.large)):
        line = rf"(constexpr int64_t {name} = )[\d']+;"
        digits = f"{value:,}".replace(",", "'")
        source, count = re.subn(line, rf"\g<1>{digits};", source)
        if count != 1:
            raise SystemExit(f"thresholds: expected one {name} in {PARAMS.name}, found {count}")
    return source


def main() -> None:
    """Read a report, and show or write the thresholds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("report", type=Path, help="what the lab wrote with --json")
    parser.add_argument("--write", action="store_true", help=f"write them to {PARAMS.name}")
    asked = parser.parse_args()
    try:
        report = json.loads(asked.report.read_text(encoding="utf-8"))
        for finding in report.get("findings", ()):
            report = finding["data"] if "timings" in finding["data"] else report
        shapes, multiprocessors = shapes_of(report), report["device"]["multiprocessors"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        sys.exit(f"thresholds: {asked.report}: not a report of the lab ({error})")
    if not shapes:
        sys.exit(f"thresholds: {asked.report} has no timings; run the lab without --correctness")
    found = best_thresholds(shapes, multiprocessors)
    print(
        f"kSmallImage {found.small:,}, kLargeImage {found.large:,}: "
        f"{found.cost(shapes, multiprocessors):.3f} times the best plan's time, on average over "
        f"{len(shapes)} shapes on {report['device']['name']}"
    )
    if asked.write:
        PARAMS.write_text(written(PARAMS.read_text(encoding="utf-8"), found), encoding="utf-8")


if __name__ == "__main__":
    main()

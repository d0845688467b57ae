"""Tables and figures of the retrieval benchmarks: from a file of results, and the checkpoints.

Prints the tables of retrieval.md, or with `--results retrieval-long.json` those of the study over
1500 steps. With the folder of the runs it also draws what the weights of
the first seed keep and ignore on test images.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib import pyplot as plt
from PIL import Image
from retrieval_weights import coverage, of_images, some_of_each_class
from scipy import stats

from gsp_deploy.base.files import replacing
from gsp_deploy.data import open_dataset
from gsp_deploy.explain.drawing import fit, heat, shade_ignored
from gsp_deploy.runtime import open_session

HERE = Path(__file__).parent
MEASURES = {"recall_at_1": "R@1", "map_at_r": "MAP@R"}
COLOURS = {
    "gap": "#7f7f7f",
    "gsp": "#1f77b4",
    "gsp+zsr": "#d62728",
    "gem": "#8c8c5a",
    "gap+gmp": "#5a8c8c",
}
# The figure of the weights: so many test images, each of another class.
SHOWN, TILE = 6, 144
# Runs from which on an interval is drawn.
FEWEST = 3

Runs = dict[tuple[str, str], dict[int, dict[str, float]]]


class Interval(NamedTuple):
    """A mean and the half-width of its 95 % confidence interval (Student's t)."""

    mean: float
    half: float

    def __str__(self) -> str:
        return f"{self.mean:.4f} ± {self.half:.4f}"


def main() -> None:
    """Print the tables and write the figures."""
    asked = _arguments()
    document = json.loads(asked.results.read_text())
    runs = by_head(document["runs"])
    if "trials" in document:
        print(trials_table(document["trials"]))
    if not runs:
        print("no run is over yet")
        return
    print(results_table(runs, asked.baseline))
    print(mass_table(runs))
    matplotlib.use("Agg")
    asked.figures.mkdir(exist_ok=True)
    draw_results(runs, asked.figures / f"{asked.results.stem}.png")
    if asked.runs is not None:
        draw_weights(
            asked.runs / "cluttered-gsp+zsr-0" / "last.safetensors",
            document["data"]["cluttered"],
            asked.figures / "retrieval-weights.png",
        )


def interval(values: list[float]) -> Interval:
    """Return the mean and its interval; infinite for a single value."""
    count = len(values)
    if count < 2:
        return Interval(float(np.mean(values)), float("inf"))
    error = float(np.std(values, ddof=1)) / count**0.5
    return Interval(float(np.mean(values)), float(stats.t.ppf(0.975, count - 1)) * error)


def by_head(records: list[dict[str, Any]]) -> Runs:
    """Return the records by data and head, and in those by seed, the first stage left out."""
    runs: Runs = {}
    for record in records:
        if record["head"] != "alone":
            runs.setdefault((record["data"], record["head"]), {})[record["seed"]] = record
    return runs


def differences(runs: Runs, data: str, heads: tuple[str, str], measure: str) -> list[float]:
    """Return what the first head has more than the second, seed by seed."""
    own, other = (runs.get((data, head), {}) for head in heads)
    return [own[seed][measure] - other[seed][measure] for seed in sorted(own.keys() & other.keys())]


def trials_table(trials: list[dict[str, Any]]) -> str:
    """Return R@1 on the validation classes of each head's trials of a learning rate."""
    rates = sorted({trial["rate"] for trial in trials})
    found = {(t["head"], t["rate"]): f"{t['validation']['recall_at_1']:.4f}" for t in trials}
    titles = ["head", *(f"{rate:g}" for rate in rates)]
    lines = [f"| {' | '.join(titles)} |", "|---" * len(titles) + "|"]
    for head in dict.fromkeys(trial["head"] for trial in trials):
        lines.append(f"| {head} | {' | '.join(found.get((head, r), '') for r in rates)} |")
    return "\n".join(lines) + "\n"


def results_table(runs: Runs, baseline: str) -> str:
    """Return the table of both measures and of the differences from the baseline."""
    titles = [*MEASURES.values(), *(f"{title} - {baseline}" for title in MEASURES.values())]
    lines = [
        f"| data | head | seeds | {' | '.join(titles)} |",
        "|---" * (3 + len(titles)) + "|",
    ]
    for (data, head), found in runs.items():
        cells = [data, head, str(len(found))]
        cells += [str(interval([run[m] for run in found.values()])) for m in MEASURES]
        for measure in MEASURES:
            gains = differences(runs, data, (head, baseline), measure)
            gain = interval(gains) if gains and head != baseline else None
            cells.append("" if gain is None else f"{gain.mean:+.4f} ± {gain.half:.4f}")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def mass_table(runs: Runs) -> str:
    """Return the table of the weights' mass on the object."""
    lines = [
        "| data | head | object's area | weights' mass on it | mass / area | spread of w |",
        "|---" * 6 + "|",
    ]
    for (data, head), found in runs.items():
        if not head.startswith("gsp"):
            continue
        records = list(found.values())
        area = interval([run["object_area"] for run in records])
        mass = interval([run["object_mass"] for run in records])
        ratio = interval([run["object_mass"] / run["object_area"] for run in records])
        spread = interval([run["weight_spread"] for run in records])
        lines.append(
            f"| {data} | {head} | {area.mean:.4f} | {mass} | "
            f"{ratio.mean:.2f} ± {ratio.half:.2f} | {spread.mean:.2f} ± {spread.half:.2f} |"
        )
    return "\n".join(lines) + "\n"


def draw_results(runs: Runs, path: Path) -> None:
    """Draw every run as a dot, and each head's mean with its interval; a row for each data."""
    names = list(dict.fromkeys(data for data, _ in runs))
    size = (7, 2.6 * len(names))
    figure, axes = plt.subplots(
        len(names), len(MEASURES), figsize=size, layout="constrained", squeeze=False
    )
    for row, name in enumerate(names):
        heads = {head: found for (data, head), found in runs.items() if data == name}
        for column, (measure, title) in enumerate(MEASURES.items()):
            axis = axes[row, column]
            for place, (head, found) in enumerate(heads.items()):
                values = [run[measure] for run in found.values()]
                _draw_head(axis, place, values, COLOURS[head])
            axis.set_xticks(range(len(heads)), list(heads), fontsize=9)
            axis.set_xlim(-0.6, len(heads) - 0.4)
            axis.set_title(f"{title} on unseen classes, {name}", fontsize=9)
            axis.tick_params(axis="y", labelsize=8)
            axis.grid(axis="y", alpha=0.3)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=100)
    plt.close(figure)


def _draw_head(axis: Any, place: int, values: list[float], colour: str) -> None:
    mean, half = interval(values)
    bar = half if len(values) >= FEWEST else 0  # of one or two runs it would only fill the page
    axis.plot([place - 0.12] * len(values), values, "o", ms=4, color=colour, alpha=0.6)
    axis.errorbar(place + 0.12, mean, bar, fmt="s", ms=5, capsize=4, color=colour)


def draw_weights(checkpoint: Path, spec: str, path: Path) -> None:
    """Draw test images, where their objects are, and what the weights keep and ignore of them."""
    images = open_dataset(spec).test
    each = some_of_each_class(images, 1)
    chosen = each[:: len(each) // SHOWN][:SHOWN]
    with open_session(checkpoint, threads=1) as session:
        maps = of_images(session, images, chosen)
    covered = coverage(images, chosen, maps.weights.shape[1:])
    mass = (maps.weights * covered).mean(axis=(1, 2)) / covered.mean(axis=(1, 2))
    figure, axes = plt.subplots(4, SHOWN, figsize=(1.45 * SHOWN, 6.2), layout="constrained")
    for column, index in enumerate(chosen):
        picture = Image.fromarray(maps.images[column])
        mask = Image.fromarray(images.object_mask(int(index)).astype(np.uint8) * 255)
        rows = (
            ("image", fit(picture, TILE)),
            ("the object", fit(mask.convert("RGB"), TILE)),
            ("kept", shade_ignored(picture, maps.kept[column], TILE)),
            ("kept share", heat(maps.kept[column], TILE)),
        )
        for axis, (title, drawn) in zip(axes[:, column], rows, strict=True):
            axis.imshow(np.asarray(drawn))
            axis.set_xticks([])
            axis.set_yticks([])
            if column == 0:
                axis.set_ylabel(title, fontsize=9)
        axes[-1, column].set_xlabel(f"mass/area {mass[column]:.2f}", fontsize=8)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=80)
    plt.close(figure)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="?", type=Path, help="folder of the runs, for their weights")
    parser.add_argument("--results", type=Path, default=HERE / "retrieval.json")
    parser.add_argument("--baseline", default="gap", help="the head to take differences from")
    parser.add_argument("--figures", type=Path, default=HERE / "figures")
    return parser.parse_args()


if __name__ == "__main__":
    main()

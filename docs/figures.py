"""Draws the figures of these pages and of the README: python docs/figures.py"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.figure import Figure
from scipy.special import expit, logit

from gsp_deploy import open_session
from gsp_deploy.bounds import DEFAULT_TOLERANCE, sweep_for
from gsp_deploy.data import open_dataset
from gsp_deploy.explain import pooling_maps, write_map_panel
from gsp_deploy.layers.transport import TransportProblem, mixing_weights
from gsp_deploy.reference import exact_weights

FOLDER = Path(__file__).parent / "figures"
GREY, BLUE, ORANGE, RED = "#7f8790", "#3b82c4", "#e08a1e", "#d1495b"  # on light and on dark
GLYPHS = "glyphs:clutter=1,size=48,scale=0.5"
STYLE = {
    "font.size": 11,
    "text.color": GREY,
    "axes.edgecolor": GREY,
    "axes.labelcolor": GREY,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.hashsalt": "gsp-deploy",
}
STEPS = (1, 2, 3, 4, 5, 6, 8, 10, 14, 20, 30, 50, 70, 100)
SHARP = (5.0, 20.0, 100.0)
SEARCHED = (
    ("fixed-point", ORANGE, (1, 3, 10, 30, 100)),
    ("newton", BLUE, (1, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20)),
    ("certified", RED, (1, 2, 3)),
)


def main() -> None:
    """Write every figure."""
    FOLDER.mkdir(exist_ok=True)
    with mpl.rc_context(STYLE):
        save(one_equation(), "one-equation.svg")
        save(convergence(), "convergence.svg")
        save(worst_case(), "worst-case.svg")
    draw_kept(FOLDER / "kept.png")


def save(figure: Figure, name: str) -> None:
    """Write a figure that is the same bytes each time."""
    figure.savefig(FOLDER / name, transparent=True, metadata={"Date": None})


def one_equation() -> Figure:
    """The kept mass against beta, with its root and the bracket that holds it."""
    ratio, log_mass = 0.3, np.array([-4.0, -3.2, -1.1, -0.9, 0.2, 1.4])
    beta = np.linspace(-5, 6, 400)
    figure = Figure(figsize=(5.6, 3), layout="constrained")
    axes = figure.add_subplot()
    for value in log_mass:
        axes.plot(beta, expit(beta + value), color=GREY, linewidth=0.7, alpha=0.7)
    mean = expit(beta[:, None] + log_mass).mean(axis=1)
    root = float(np.interp(ratio, mean, beta))
    axes.plot(beta, mean, color=BLUE, linewidth=2.2)
    axes.axhline(ratio, color=ORANGE, linewidth=1)
    axes.plot([root], [ratio], "o", color=RED)
    low, high = logit(ratio) - log_mass.max(), logit(ratio) - log_mass.min()
    axes.axvspan(low, high, color=ORANGE, alpha=0.12, linewidth=0)
    axes.annotate("root", (root, ratio), xytext=(6, -14), textcoords="offset points", color=RED)
    axes.annotate("their mean", (6.15, mean[-1]), color=BLUE, verticalalignment="center")
    axes.annotate("one location", (6.15, 0.84), color=GREY, verticalalignment="center")
    axes.annotate("bracket", (low + 0.1, 0.93), color=ORANGE)
    axes.set_xlim(right=8.4)
    axes.set_xticks(range(-4, 7, 2))
    axes.set_yticks([0, ratio, 1], ["0", "μ", "1"])
    axes.set_xlabel("β")
    axes.set_ylabel("kept share")
    return figure


def convergence() -> Figure:
    """The worst weight error against steps, both solvers, for three settings."""
    settings = ((5.0, 0.3), (5.0, 0.9), (20.0, 0.3))
    figure = Figure(figsize=(7, 2.9), layout="constrained")
    rows = figure.subplots(1, len(settings), sharey=True)
    for axes, (gamma, ratio) in zip(rows, settings, strict=True):
        log_mass = random_log_masses(gamma)
        exact = exact_weights(log_mass, ratio)
        for solver, colour in (("newton", BLUE), ("fixed-point", ORANGE)):
            errors = [worst_error(log_mass, exact, ratio, solver, steps) for steps in STEPS]
            axes.plot(STEPS, np.maximum(errors, 1e-16), "o-", color=colour, markersize=3)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xticks([1, 10, 100], ["1", "10", "100"])
        axes.set_title(f"γ = {gamma:g}, μ = {ratio:g}", fontsize=11)
        axes.set_xlabel("steps")
    rows[0].set_ylabel("worst weight error")
    rows[0].annotate("newton", (4.5, 3e-13), color=BLUE)
    rows[0].annotate("fixed-point", (22, 1e-4), color=ORANGE)
    return figure


def worst_case() -> Figure:
    """The worst weight error over its spread that a search finds, by solver and steps."""
    figure = Figure(figsize=(7, 2.9), layout="constrained")
    rows = figure.subplots(1, len(SHARP), sharey=True)
    for axes, gamma in zip(rows, SHARP, strict=True):
        sweep = sweep_for(2 * gamma, DEFAULT_TOLERANCE)
        for solver, colour, counts in SEARCHED:
            found = [climbed_error(gamma, solver, steps, sweep.points) for steps in counts]
            axes.plot(counts, np.maximum(found, 1e-16), "o-", color=colour, markersize=3)
        axes.axhline(sweep.method_error(2 * gamma), color=RED, linewidth=1, linestyle="--")
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_ylim(1e-16, 10)
        axes.set_xticks([1, 10, 100], ["1", "10", "100"])
        axes.set_title(f"γ = {gamma:g}, {sweep.points} points", fontsize=11)
        axes.set_xlabel("steps")
    rows[0].set_ylabel("worst weight error / spread")
    rows[0].annotate("certified", (1, 3e-15), color=RED)
    rows[0].annotate("proved", (30, 1e-6), color=RED)
    rows[0].annotate("newton", (5.5, 3e-10), color=BLUE)
    rows[1].annotate("fixed-point", (12, 1e-2), color=ORANGE)
    return figure


def climbed_error(gamma: float, solver: str, steps: int, points: int, ratio: float = 0.3) -> float:
    """Return the worst error over the spread that hill-climbing comes to, in float64."""
    draw = np.random.default_rng(steps)
    problem = TransportProblem(ratio, solver, steps, ratio, points)  # type: ignore[arg-type]

    def errors(log_mass: np.ndarray) -> np.ndarray:
        found = mixing_weights(torch.from_numpy(log_mass), problem).numpy()
        exact = exact_weights(log_mass, ratio)
        return np.abs(found - exact).max(axis=1) / np.maximum(np.ptp(exact, axis=1), 1e-3)

    values = -2 * gamma * draw.random((128, 5))
    values[::2] = -2 * gamma * draw.integers(0, 2, (64, 5))
    best = np.take_along_axis(values, draw.integers(0, 5, (128, 12)), axis=1)
    worst = errors(best)
    for _ in range(40):
        size = 2 * gamma * 10 ** draw.uniform(-4, 0)
        moved = draw.random(best.shape) < draw.choice([0.1, 1.0])
        tried = best + size * moved * draw.standard_normal(best.shape)
        tried = np.clip(tried, -2 * gamma, 0)
        came = errors(tried)
        better = came > worst
        best[better], worst[better] = tried[better], came[better]
    return float(worst.max())


def draw_kept(path: Path) -> None:
    """Draw what the shipped model keeps of an image of a class that it never saw.

    Chosen by hand: it is among the ten clearest of 300 test images (models/glyphs.md).
    """
    checkpoint = Path(str(files("gsp_deploy_models") / "glyphs.safetensors"))
    images = open_dataset(GLYPHS).test
    chosen = np.asarray(images.image(4120))  # of class latin-small-b
    with open_session(checkpoint) as session:
        write_map_panel(pooling_maps(session, chosen[None]), 0, path)


def random_log_masses(gamma: float) -> np.ndarray:
    """Return log-masses `(64, 49)` of random features and prototypes inside the unit ball."""
    draw = np.random.default_rng(0)
    features, prototypes = draw.normal(size=(64, 49, 16)), draw.normal(size=(32, 16))
    for vectors in (features, prototypes):
        vectors /= np.maximum(1, np.linalg.norm(vectors, axis=-1, keepdims=True))
    cost = np.linalg.norm(features[:, :, None] - prototypes, axis=-1)
    scores = -gamma * cost
    peak = scores.max(axis=-1, keepdims=True)
    return (np.log(np.exp(scores - peak).sum(axis=-1, keepdims=True)) + peak)[..., 0]


def worst_error(
    log_mass: np.ndarray, exact: np.ndarray, ratio: float, solver: str, steps: int
) -> float:
    """Return the largest |w - w*| after so many steps, in float64."""
    problem = TransportProblem(ratio, solver, steps, ratio)  # type: ignore[arg-type]
    return float(np.abs(mixing_weights(torch.from_numpy(log_mass), problem).numpy() - exact).max())


if __name__ == "__main__":
    main()

"""One training step of the pooling layer: embedding, costs, transport, pooling, both ways.

The package's layer with either solver against plain autograd through torch.cdist and the paper's
100 steps. All give the same outputs and gradients, which is checked before anything is timed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from conditions import conditions, publish, spread
from torch import Tensor
from unrolled import (
    BATCH,
    DIM,
    LOCATIONS,
    PROTOTYPES,
    embedded,
    inputs,
    layer,
    loss,
    unrolled,
)

from gsp_deploy.benchmark.timing import MILLISECONDS, Rounds, interleave
from gsp_deploy.layers import PoolingOutput

STEPS = 100
TOLERANCE = 1e-4
AUTOGRAD = "autograd through cdist and 100 steps"

Forward = Callable[[Tensor], PoolingOutput]


def main() -> None:
    """Check, measure `--runs` times, and print times and speed-ups."""
    asked = _arguments()
    sizes = f"B={BATCH} N={LOCATIONS} D={DIM} M={PROTOTYPES}"
    about = conditions(asked.threads, sizes=sizes, rounds=asked.rounds, runs=asked.runs)
    steps = _training_steps()
    _check(steps)
    names, tasks = list(steps), list(steps.values())
    times = [
        interleave(tasks, Rounds(warmup=5, repeats=asked.rounds)) * MILLISECONDS
        for _ in range(asked.runs)
    ]
    plain = names.index(AUTOGRAD)
    results: list[dict[str, Any]] = [
        {
            "layer": name,
            "p50_ms": [float(np.median(run[:, index])) for run in times],
            "speed_up": [float(np.median(run[:, plain] / run[:, index])) for run in times],
        }
        for index, name in enumerate(names)
    ]
    rows = [(r["layer"], spread(r["p50_ms"], 1), spread(r["speed_up"], 2)) for r in results]
    publish(
        "training_layer", about, results, ("layer", "p50, ms", "times faster"), rows, asked.json
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def _training_steps() -> dict[str, Callable[[], list[Tensor]]]:
    """Return what runs forward and backward, and gives the outputs and gradients."""
    features, prototypes = inputs()
    layers = {}
    for solver in ("fixed-point", "newton", "certified"):
        layers[solver] = layer(solver, STEPS if solver == "fixed-point" else None)
        layers[solver].embed.weight = layers["fixed-point"].embed.weight
        layers[solver].prototypes = torch.nn.Parameter(prototypes.detach().clone())

    def run(forward: Forward, anchors: Tensor) -> list[Tensor]:
        weight = layers["fixed-point"].embed.weight
        features.grad = anchors.grad = weight.grad = None
        out = forward(features)
        loss(out).backward()
        found = [out.embedding.detach(), features.grad, anchors.grad, weight.grad]
        assert all(tensor is not None for tensor in found)
        return found

    plain = layers["fixed-point"].embed.weight
    steps = {
        AUTOGRAD: lambda: run(lambda x: unrolled(embedded(x, plain), prototypes, STEPS), prototypes)
    }
    for solver, module in layers.items():
        steps[f"this layer, {solver}"] = partial(run, module, module.prototypes)
    return steps


def _check(steps: dict[str, Callable[[], list[Tensor]]]) -> None:
    expected = [tensor.clone() for tensor in steps[AUTOGRAD]()]
    for name, step in steps.items():
        for found, wanted in zip(step(), expected, strict=True):
            error = float((found - wanted).abs().max() / wanted.abs().max())
            if not error < TOLERANCE:
                sys.exit(f"{name}: relative error {error:.1e}; nothing was timed")


if __name__ == "__main__":
    main()

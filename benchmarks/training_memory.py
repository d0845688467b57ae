"""What the pooling layer keeps for its backward pass, by the number of solver steps.

Counts the bytes of all tensors that autograd saves in one forward pass, each storage once.
Deterministic: no clock, no allocator.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import torch
from conditions import conditions, publish
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

MEBIBYTE = 1 << 20


def main() -> None:
    """Count for each number of steps and print one row a layer."""
    asked = _arguments()
    about = conditions(asked.threads, sizes=f"B={BATCH} N={LOCATIONS} D={DIM} M={PROTOTYPES}")
    features, prototypes = inputs()
    weight = layer("newton").embed.weight
    layers: dict[str, Callable[[int], Tensor]] = {
        "autograd through cdist and K steps": lambda k: loss(
            unrolled(embedded(features, weight), prototypes, k)
        ),
        "this layer, fixed-point": lambda k: loss(layer("fixed-point", k)(features)),
        "this layer, newton": lambda k: loss(layer("newton", k)(features)),
    }
    results: list[dict[str, Any]] = [
        {
            "layer": name,
            "saved_bytes": {
                str(steps): saved_bytes(lambda run=run, steps=steps: run(steps))  # type: ignore[misc]
                for steps in asked.steps
            },
        }
        for name, run in layers.items()
    ]
    rows = [
        (r["layer"], *(f"{found / MEBIBYTE:.2f}" for found in r["saved_bytes"].values()))
        for r in results
    ]
    columns = ("saved for backward, MiB", *(f"K = {steps}" for steps in asked.steps))
    publish("training_memory", about, results, columns, rows, asked.json)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, nargs="+", default=[10, 100, 1000])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def saved_bytes(forward: Callable[[], Tensor]) -> int:
    """Return the bytes of the storages that `forward` leaves with autograd."""
    storages: dict[int, int] = {}
    kept = []  # alive until the end, so that no address is used twice

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes()
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        forward()
    return sum(storages.values())


if __name__ == "__main__":
    main()

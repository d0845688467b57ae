"""What every script here prints beside its figures: the machine, the versions, the spread."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from gsp_deploy.base.environment import Environment


def conditions(threads: int, **settings: object) -> dict[str, Any]:
    """Return machine, versions, threads and settings of a run on the CPU."""
    torch.set_num_threads(threads)
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return {
        "device": "cpu",
        "threads": threads,
        "load_average_before": load,
        **settings,
        "environment": dataclasses.asdict(Environment.here()),
    }


def spread(values: Sequence[float], digits: int = 3) -> str:
    """Return the median of repeated runs, and their least and greatest."""
    return f"{np.median(values):.{digits}f} ({min(values):.{digits}f}-{max(values):.{digits}f})"


def publish(
    name: str,
    about: dict[str, Any],
    results: Sequence[dict[str, Any]],
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    as_json: bool,
) -> None:
    """Print one JSON document, or the conditions and a Markdown table."""
    if as_json:
        print(json.dumps({"benchmark": name, "version": 1, **about, "results": results}, indent=2))
        return
    environment = about["environment"]
    packages = " ".join(f"{k} {v}" for k, v in environment["packages"].items())
    print(f"{environment['processor']}, {environment['cores']} cores, {environment['system']}")
    print(f"Python {environment['python']} {packages}")
    others = {k: v for k, v in about.items() if k != "environment"}
    print(", ".join(f"{k} {v}" for k, v in others.items()), end="\n\n")
    print("| " + " | ".join(columns) + " |")
    print("|---" * len(columns) + "|")
    for row in rows:
        print("| " + " | ".join(row) + " |")

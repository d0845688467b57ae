"""Read the JSON document that `gsp-deploy check` wrote."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from gsp_deploy.metrics import shares_by_name
from gsp_deploy.parity.gates import Gate


@dataclass(frozen=True)
class Errors:
    """One error by image: its worst, 99 % and median, and how many images are in each decade.

    `edges (k,)` ascend; `counts (k + 1,)` are below the first, between, and above the last.
    A figure that is infinite or NaN in the check is None in its document, and infinite here.
    """

    maximum: float
    p99: float
    median: float
    edges: tuple[float, ...]
    counts: tuple[int, ...]

    @classmethod
    def from_document(cls, data: Mapping[str, Any]) -> Errors:
        """Read the result of `Distribution.to_dict`."""
        histogram = data["histogram"]
        edges = tuple(float(edge) for edge in histogram["edges"])
        counts = tuple(int(count) for count in histogram["counts"])
        if len(counts) != len(edges) + 1:
            raise ValueError(f"{len(edges)} edges do not go with {len(counts)} counts")
        ascend = all(low < high for low, high in pairwise((0.0, *edges)))
        if not edges or not ascend or min(counts) < 0:
            raise ValueError("a histogram's edges ascend from above 0, and its counts from 0")
        worst, tail, middle = (_number(data[name]) for name in ("max", "p99", "median"))
        return cls(worst, tail, middle, edges, counts)


@dataclass(frozen=True)
class Check:
    """Parity of one artifact with its reference.

    Attributes:
        path: of the candidate; `reference` is the file name of the reference.
        name: the candidate's name: that of its file.
        runtime, device, precision: of the candidate.
        images: how many were compared.
        passed: whether every gate held.
        gates: the gates.
        cosine: 1 - cos of the embeddings, by image.
        weights: mixing weights' error over their spread, by image; None if not compared.
        top1_flips, queries: nearest neighbours that changed, and how many there are; None without.
        overlap: share of the nearest neighbours that stay, by k.
        before, after: retrieval metrics of the reference and of the candidate, shares by name;
            empty without classes.
        notes: what was not compared, and why.
    """

    path: str
    name: str
    reference: str
    runtime: str
    device: str
    precision: str
    images: int
    passed: bool
    gates: tuple[Gate, ...]
    cosine: Errors
    weights: Errors | None
    top1_flips: int | None
    queries: int | None
    overlap: Mapping[int, float]
    before: Mapping[str, float]
    after: Mapping[str, float]
    notes: tuple[str, ...]

    @classmethod
    def from_document(cls, data: Mapping[str, Any]) -> Check:
        """Read the output of `gsp-deploy check --json`."""
        candidate, weights = data["candidate"], data["weights"]
        retrieval = data["retrieval"] or {}
        path = str(candidate["path"])
        return cls(
            path=path,
            name=Path(path).name,
            reference=Path(str(data["reference"]["path"])).name,
            runtime=str(candidate["runtime"]),
            device=str(candidate["device"]),
            precision=str(candidate["precision"]),
            images=int(data["images"]),
            passed=bool(data["passed"]),
            gates=tuple(Gate.from_dict(gate) for gate in data["gates"]),
            cosine=Errors.from_document(data["cosine_distance"]),
            weights=weights and Errors.from_document(weights["relative_to_spread"]),
            top1_flips=retrieval.get("top1_flips"),
            queries=retrieval.get("queries"),
            overlap={int(k): float(v) for k, v in (retrieval.get("overlap_at") or {}).items()},
            before=shares_by_name(retrieval.get("reference") or {}),
            after=shares_by_name(retrieval.get("candidate") or {}),
            notes=tuple(str(note) for note in data["notes"]),
        )

    @property
    def failed_gates(self) -> tuple[Gate, ...]:
        """The gates that did not hold."""
        return tuple(gate for gate in self.gates if not gate.passed)

    def limit_of(self, name: str) -> float | None:
        """Return the limit of the gate with this name."""
        return next((gate.limit for gate in self.gates if gate.name == name), None)

    def change_of(self, metric: str) -> float | None:
        """Return the change of a retrieval metric; None if it was not measured."""
        before, after = self.before.get(metric), self.after.get(metric)
        return None if before is None or after is None else after - before


def _number(value: object) -> float:
    return math.inf if value is None else float(value)  # type: ignore[arg-type]

"""Retrieval metrics of models on a data set, as `evaluate` wrote them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# What `evaluate` calls all models' embeddings put together.
JOINED = "joined embeddings"
# What R@k is called before its k.
RECALL = "recall_at_"


@dataclass(frozen=True)
class Evaluated:
    """Retrieval metrics by model, shares of 1; every model has the same."""

    dataset: str
    images: int
    classes: int
    models: Mapping[str, Mapping[str, float]]
    notes: tuple[str, ...] = ()

    @classmethod
    def from_document(cls, data: Mapping[str, Any]) -> Evaluated:
        """Read what `gsp-deploy evaluate --json` printed."""
        models = {str(name): shares(metrics) for name, metrics in data["models"].items()}
        if joined := data.get("concatenated"):
            models[JOINED] = shares(joined)
        if len({frozenset(metrics) for metrics in models.values()}) != 1:
            raise ValueError("its models do not have the same metrics")
        notes = tuple(str(note) for note in data.get("notes", ()))
        return cls(str(data["dataset"]), int(data["images"]), int(data["classes"]), models, notes)

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics' names, in the document's order."""
        return tuple(next(iter(self.models.values())))

    @property
    def ranks(self) -> list[int]:
        """Every k of R@k."""
        recalls = [name for name in self.metrics if name.startswith(RECALL)]
        return sorted(int(name.removeprefix(RECALL)) for name in recalls)


def shares(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Return metrics by name."""
    return {str(name): float(share) for name, share in metrics.items()}

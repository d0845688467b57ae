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
    """Retrieval metrics by model, shares of 1.

    Attributes:
        dataset, images, classes: what was searched.
        metrics: their names, which are the same for every model.
        ranks: every k of R@k among them.
        models: the metrics of each, by the model's name.
        notes: what a reader should know.
    """

    dataset: str
    images: int
    classes: int
    metrics: tuple[str, ...]
    ranks: tuple[int, ...]
    models: Mapping[str, Mapping[str, float]]
    notes: tuple[str, ...]

    @classmethod
    def from_document(cls, data: Mapping[str, Any]) -> Evaluated:
        """Read what `gsp-deploy evaluate --json` printed."""
        models = {str(name): shares(metrics) for name, metrics in data["models"].items()}
        if joined := data.get("concatenated"):
            models[JOINED] = shares(joined)
        if len({frozenset(metrics) for metrics in models.values()}) != 1:
            raise ValueError("its models do not have the same metrics")
        metrics = tuple(next(iter(models.values())))
        recalls = [name for name in metrics if name.startswith(RECALL)]
        return cls(
            dataset=str(data["dataset"]),
            images=int(data["images"]),
            classes=int(data["classes"]),
            metrics=metrics,
            ranks=tuple(sorted(int(name.removeprefix(RECALL)) for name in recalls)),
            models=models,
            notes=tuple(str(note) for note in data.get("notes", ())),
        )


def shares(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Return metrics by name."""
    return {str(name): float(share) for name, share in metrics.items()}

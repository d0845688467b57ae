"""Read the JSON documents that `evaluate` and `search` write."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gsp_deploy.metrics import shares_by_name

# Name of the metrics of all models' embeddings joined into one.
JOINED = "joined embeddings"
# Prefix of the metric R@k; k follows.
RECALL = "recall_at_"


@dataclass(frozen=True)
class Evaluated:
    """Retrieval metrics of each model, from 0 to 1.

    Attributes:
        dataset, images, classes: the data set, and its numbers of images and classes.
        metrics: names of the metrics, the same for every model.
        ranks: every k of R@k among them.
        models: the metrics of each model, by its name.
        notes: notes for a reader of the results.
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
        """Read the output of `gsp-deploy evaluate --json`."""
        models = {str(name): shares_by_name(metrics) for name, metrics in data["models"].items()}
        if joined := data.get("concatenated"):
            models[JOINED] = shares_by_name(joined)
        if len({frozenset(metrics) for metrics in models.values()}) != 1:
            raise ValueError("expected the same metrics for every model")
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


@dataclass(frozen=True)
class Found:
    """One image of the gallery that a query found, and the cosine between the two embeddings."""

    file: str
    cosine: float


@dataclass(frozen=True)
class Searched:
    """One query and what it found, the nearest first."""

    query: str
    hits: tuple[Found, ...]

    @classmethod
    def from_result(cls, data: Mapping[str, Any]) -> Searched:
        """Read one entry of `results` from the output of `gsp-deploy search --json`."""
        hits = tuple(Found(str(hit["file"]), float(hit["cosine"])) for hit in data["hits"])
        return cls(str(data["query"]), hits)


def read_search(data: Mapping[str, Any]) -> list[Searched]:
    """Read the output of `gsp-deploy search --json`: one entry per query."""
    return [Searched.from_result(result) for result in data["results"]]

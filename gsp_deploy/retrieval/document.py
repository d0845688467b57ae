"""What `evaluate` and `search` wrote, read back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gsp_deploy.metrics import shares_by_name

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
        models = {str(name): shares_by_name(metrics) for name, metrics in data["models"].items()}
        if joined := data.get("concatenated"):
            models[JOINED] = shares_by_name(joined)
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
        """Read one entry of `results` in what `gsp-deploy search --json` prints."""
        hits = tuple(Found(str(hit["file"]), float(hit["cosine"])) for hit in data["hits"])
        return cls(str(data["query"]), hits)


def read_search(data: Mapping[str, Any]) -> list[Searched]:
    """Read what `gsp-deploy search --json` prints: one entry per query."""
    return [Searched.from_result(result) for result in data["results"]]

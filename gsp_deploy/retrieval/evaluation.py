"""Evaluate retrieval with one model or an ensemble, in any runtime, on any data set."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Union

import numpy as np

from gsp_deploy.base.cores import available_cores
from gsp_deploy.base.progress import Advance
from gsp_deploy.config import PreprocessingSpec
from gsp_deploy.data import Dataset, LabelledImages
from gsp_deploy.data.images import ImageFiles
from gsp_deploy.errors import DataError, UsageError
from gsp_deploy.images.preprocessing import fit_image
from gsp_deploy.images.reduction import fit_reduced, refuse_unaveraged
from gsp_deploy.metrics import RetrievalMetrics, retrieval_metrics, unit_rows
from gsp_deploy.runtime import EmbeddingSession

if TYPE_CHECKING:
    from gsp_deploy.retrieval.dataset import StoredEmbeddings

BATCH = 64
# An open model, or the embeddings that one has computed before.
Embedder = Union[EmbeddingSession, "StoredEmbeddings"]


@dataclass(frozen=True)
class Evaluation:
    """How well one or several models retrieve on a data set's test part.

    Attributes:
        dataset: the specification's name.
        fingerprint: hash of the test part.
        images: number of test images.
        classes: number of their classes.
        models: metrics of each model by its file name.
        separated: mean over the models, as the Reality Check's separated protocol reports.
        concatenated: metrics of the joined embeddings; None for a single model.
        notes: the data set's notes, such as skipped files.
        reduced_jpeg: whether large JPEG files were decoded at a fraction of their size.
    """

    dataset: str
    fingerprint: str
    images: int
    classes: int
    models: dict[str, RetrievalMetrics]
    separated: dict[str, float]
    concatenated: RetrievalMetrics | None
    notes: tuple[str, ...]
    reduced_jpeg: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON-able data."""
        joined = self.concatenated
        return {
            "dataset": self.dataset,
            "fingerprint": self.fingerprint,
            "images": self.images,
            "classes": self.classes,
            "models": {name: found.to_dict() for name, found in self.models.items()},
            "separated": self.separated,
            "concatenated": None if joined is None else joined.to_dict(),
            "notes": list(self.notes),
            "reduced_jpeg": self.reduced_jpeg,
        }


def evaluate(
    sessions: Sequence[Embedder],
    dataset: Dataset,
    ranks: Sequence[int] | None = None,
    progress: Advance | None = None,
    *,
    reduced_jpeg: bool = False,
) -> Evaluation:
    """Embed the test part with every session and search it as the data set's protocol does.

    Args:
        sessions: one model, or the members of an ensemble (its embeddings are joined). Each may
            be stored embeddings instead; the images are found in them by their ids.
        dataset: if it has a gallery, its queries search the gallery; otherwise each test image
            searches all the others. If it names no parts, all its images are tested.
        ranks: the K of R@K; None takes those that the literature reports on this data set.
        progress: called with the number of images embedded since the last call.
        reduced_jpeg: decode large JPEG files at a fraction of their size; see `load_image`.
            Stored embeddings stay as they are.

    Raises:
        UsageError: there is no session, or a model's images cannot be reduced.
        DataError: the data set has no test images, all of them have the same class, none has a
            match, or one cannot be read.
    """
    dataset = dataset.for_evaluation()
    if not sessions:
        raise UsageError("evaluation needs at least one model")
    if not len(dataset.test):
        raise DataError(
            f"{dataset.name}: expected images to test, got {len(dataset.train)} to train and none "
            "to test; to evaluate on those, name their own folder"
        )
    _refuse_meaningless(dataset)
    ranks = tuple(ranks or dataset.recall_ranks)
    names = _names(sessions)
    parts = {
        name: _embed_parts(session, dataset, progress, reduced_jpeg)
        for name, session in zip(names, sessions, strict=True)
    }
    models = {name: _metrics(found, dataset, ranks) for name, found in parts.items()}
    figures = [found.to_dict() for found in models.values()]
    joined = None if len(parts) == 1 else _metrics(_join(list(parts.values())), dataset, ranks)
    return Evaluation(
        dataset=dataset.name,
        fingerprint=dataset.test.fingerprint(),
        images=len(dataset.test),
        classes=len(np.unique(dataset.test.labels)),
        models=models,
        separated={key: float(np.mean([f[key] for f in figures])) for key in figures[0]},
        concatenated=joined,
        notes=dataset.notes,
        reduced_jpeg=reduced_jpeg,
    )


def _refuse_meaningless(dataset: Dataset) -> None:
    """Refuse images whose metrics would be perfect for every model, or not a number."""
    searched = dataset.test if dataset.gallery is None else dataset.gallery
    if dataset.query is None:
        can_match = bool((np.bincount(searched.labels) > 1).any())
    else:
        can_match = bool(np.isin(dataset.query.labels, searched.labels).any())
    if not can_match:
        raise DataError(
            f"{dataset.name}: expected two images of a class, or a query and a gallery image of "
            "it, got none, so no image has a match to find"
        )
    if len(np.unique(searched.labels)) < 2:
        raise DataError(
            f"{dataset.name}: expected images of at least two classes, got only "
            f"{searched.class_name(0)}; every answer would be right, so the metrics would mean "
            "nothing"
        )


def embed_images(
    session: Embedder,
    images: LabelledImages,
    progress: Advance | None = None,
    *,
    reduced_jpeg: bool = False,
) -> np.ndarray:
    """Return the embeddings of a part in its order, float32 `(n, D)`, decoding in parallel.

    With `reduced_jpeg`, large JPEG files are decoded at a fraction of their size.

    Raises:
        DataError: an image cannot be read, or has no stored embedding.
    """
    if not isinstance(session, EmbeddingSession):
        return _stored(session, images, progress)
    spec = session.info.require_preprocessing()
    if reduced_jpeg:
        refuse_unaveraged(spec)
    load = partial(_fitted, images, spec, reduced_jpeg)
    found = [np.zeros((0, session.info.embedding_dim), np.float32)]
    with ThreadPoolExecutor(available_cores()) as pool:
        for start in range(0, len(images), BATCH):
            indices = range(start, min(start + BATCH, len(images)))
            pixels = list(pool.map(load, indices))
            found.append(session.embed(np.stack(pixels)))
            if progress is not None:
                progress(len(pixels))
    return np.concatenate(found)


def _fitted(
    images: LabelledImages, spec: PreprocessingSpec, reduced: bool, index: int
) -> np.ndarray:
    source = images.source
    if reduced and isinstance(source, ImageFiles):
        return fit_reduced(source.root / source.paths[images.positions[index]], spec)
    return fit_image(images.image(index), spec)


def _stored(
    stored: StoredEmbeddings, images: LabelledImages, progress: Advance | None
) -> np.ndarray:
    from gsp_deploy.retrieval.dataset import embeddings_of

    found = embeddings_of(stored, images.ids)
    if progress is not None:
        progress(len(found))
    return found


def _embed_parts(
    session: Embedder, dataset: Dataset, progress: Advance | None, reduced: bool
) -> tuple[np.ndarray, ...]:
    parts = (dataset.test,) if dataset.query is None else (dataset.query, dataset.part("gallery"))
    return tuple(embed_images(session, part, progress, reduced_jpeg=reduced) for part in parts)


def _metrics(
    embeddings: tuple[np.ndarray, ...], dataset: Dataset, ranks: Sequence[int]
) -> RetrievalMetrics:
    if dataset.query is None:
        return retrieval_metrics(embeddings[0], dataset.test.labels, ranks=ranks)
    query, gallery = embeddings
    gallery_labels = dataset.part("gallery").labels
    return retrieval_metrics(query, dataset.query.labels, gallery, gallery_labels, ranks)


def _join(members: list[tuple[np.ndarray, ...]]) -> tuple[np.ndarray, ...]:
    """Concatenate the members' embeddings, each brought to unit length first."""
    return tuple(
        np.concatenate([unit_rows(embeddings) for embeddings in part], axis=1)
        for part in zip(*members, strict=True)
    )


def _names(sessions: Sequence[Embedder]) -> list[str]:
    """Return one name per session: the file's name, or the whole path if two names are equal."""
    paths = [s.info.path if isinstance(s, EmbeddingSession) else s.path for s in sessions]
    plain = [path.name for path in paths]
    names = plain if len(set(plain)) == len(plain) else [str(path) for path in paths]
    if len(set(names)) != len(names):
        raise UsageError("expected different model files, got the same one twice; name each once")
    return names

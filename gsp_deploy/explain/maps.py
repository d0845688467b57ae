"""Read mixing weights and prototype scores, location by location.

A checkpoint gives both. An ONNX export of gsp-deploy gives both too, with any outputs and in any
form, because its inner values are read from a copy of the graph. Anything else, such as an engine,
gives only the weights, and only if it was exported with that output.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gsp_deploy.artifact.kind import CHECKPOINT, ONNX, kind_of
from gsp_deploy.config import GSPConfig, ModelConfig
from gsp_deploy.errors import UsageError
from gsp_deploy.runtime import EmbeddingSession
from gsp_deploy.runtime.session import SessionOptions

CHUNK = 16
# The exporter's names for the values that are read from inside a graph.
EMBEDDINGS, SCORES, WEIGHTS = "gsp/embed", "gsp/scores", "gsp/weights"

Maps = tuple[np.ndarray, np.ndarray | None]
Reader = Callable[[np.ndarray], Maps]


@dataclass(frozen=True, eq=False)
class PoolingMaps:
    """What the pooling keeps of some images, and which prototypes take it.

    Attributes:
        images: as the network saw them, uint8 `(B, H, W, 3)`.
        weights: mixing weights w, float32 `(B, h, w)`, mean 1 over each image.
        scores: -gamma c of each prototype at each location, float32 `(B, M, h, w)`; None if the
            artifact does not give them.
        transport_ratio: mu, so that `mu w` is the kept share of a location; None if unknown.
    """

    images: np.ndarray
    weights: np.ndarray
    scores: np.ndarray | None
    transport_ratio: float | None

    @property
    def kept(self) -> np.ndarray:
        """The share of each location's mass that is kept, in [0, 1], `(B, h, w)`.

        If mu is unknown, the weights relative to the image's largest weight.
        """
        if self.transport_ratio is None:
            return self.weights / self.weights.max(axis=(1, 2), keepdims=True)
        return (self.weights * self.transport_ratio).clip(0, 1)

    @property
    def assignments(self) -> np.ndarray | None:
        """The share of each location that each prototype takes, `(B, M, h, w)`, sum 1 over M."""
        if self.scores is None:
            return None
        shares = np.exp(self.scores - self.scores.max(axis=1, keepdims=True))
        return shares / shares.sum(axis=1, keepdims=True)

    @property
    def attributes(self) -> np.ndarray | None:
        """Each prototype's share of what an image keeps, `(B, M)`; None if there are no scores."""
        assignments = self.assignments
        if assignments is None:
            return None
        return np.einsum("bmhw,bhw->bm", assignments, self.weights) / self.weights[0].size


def pooling_maps(session: EmbeddingSession, images: np.ndarray) -> PoolingMaps:
    """Return the maps of uint8 images `(B, H, W, 3)` of the model's size, B at least 1.

    Raises:
        UsageError: the model does not give its weights, or there is no image.
    """
    if not len(images):
        raise UsageError("expected at least one image to explain, got none")
    with _reader(session) as (read, ratio):
        found = [read(images[start : start + CHUNK]) for start in range(0, len(images), CHUNK)]
    weights, scores = zip(*found, strict=True)
    known = [part for part in scores if part is not None]
    return PoolingMaps(
        images, np.concatenate(weights), np.concatenate(known) if known else None, ratio
    )


@contextmanager
def _reader(
    session: EmbeddingSession,
) -> Iterator[tuple[Reader, float | None]]:
    """Yield a function that reads the maps of a chunk of images, and mu."""
    path, manifest = session.info.path, session.info.manifest
    if kind_of(path) is CHECKPOINT:
        yield _from_checkpoint(session)
        return
    ratio = _transport_ratio(path, None if manifest is None else manifest.model)
    if kind_of(path) is not ONNX:
        yield _from_outputs(session), ratio
        return
    with _inside(session) as read:
        yield read or _from_outputs(session), ratio


def _transport_ratio(path: Path, config: ModelConfig | None) -> float | None:
    if config is None:
        return None
    if not isinstance(config.head, GSPConfig):
        raise UsageError(
            f"{path} has {config.head.in_words}, so there are no weights of locations to draw; "
            "maps need a model with Generalized Sum Pooling"
        )
    return config.head.transport_ratio


@contextmanager
def _inside(session: EmbeddingSession) -> Iterator[Reader | None]:
    """Yield a function that reads the maps from a copy of an ONNX graph, on the CPU.

    Yield None if gsp-deploy did not export the graph.
    """
    from gsp_deploy.parity.layers.graph import load_graph
    from gsp_deploy.parity.layers.probes import OnnxProbe

    graph = load_graph(session.info.path)
    produced = {name for node in graph.graph.node for name in node.output}
    if not {EMBEDDINGS, SCORES} <= produced:
        yield None
        return
    names = [name for name in (EMBEDDINGS, SCORES, WEIGHTS) if name in produced]
    spec = session.info.preprocessing
    with OnnxProbe(graph, names, spec, SessionOptions(), emulate_fp16=False) as probe:

        def read(images: np.ndarray) -> Maps:
            found = probe.run(images)
            height, width = found[EMBEDDINGS].shape[2:]
            scores = found[SCORES]
            # A graph with mu = 1 has no weights: all are 1.
            weights = found.get(WEIGHTS, np.ones_like(scores[:, :1]))
            maps = weights.reshape(-1, height, width)
            return maps, scores.reshape(len(maps), -1, height, width)

        yield read


def _from_checkpoint(
    session: EmbeddingSession,
) -> tuple[Reader, float | None]:
    ratio = _transport_ratio(session.info.path, session.info.config)

    def read(images: np.ndarray) -> Maps:
        weights = session.run(images, ("weights",))["weights"]
        return weights, session.prototype_scores(images)

    return read, ratio


def _from_outputs(session: EmbeddingSession) -> Reader:
    if "weights" not in session.info.outputs:
        raise UsageError(
            f"{session.info.path} has no output weights; export it with --also weights"
        )
    return lambda images: (session.run(images, ("weights",))["weights"], None)

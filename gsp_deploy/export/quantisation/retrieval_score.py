"""Score a quantised backbone against the float32 one by retrieval."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from gsp_deploy.export.calibration import Calibration
from gsp_deploy.export.quantisation.images import QuantisationImages
from gsp_deploy.export.quantisation.quantisable import Quantisable
from gsp_deploy.export.transport import SolverPlan
from gsp_deploy.export.trial_run import running
from gsp_deploy.metrics import neighbour_overlap, neighbours, retrieval_metrics

NEIGHBOURS = 10
PROBE_IMAGES = 32
_BATCH = 16


@dataclass(frozen=True)
class Score:
    """The retrieval score of embeddings, in points of 100.

    `value` is MAP@R if there are labels, else the mean cosine to float32's embeddings. `overlap`
    is the share of the 10 nearest neighbours that float32 also finds.
    """

    value: float
    overlap: float


class Judge:
    """Embeds the validation images with one backbone after another, always with the same head.

    Attributes:
        measure: `MAP@R`, or `cosine` if no class has two images.
        float32: the score of the float32 backbone.
    """

    def __init__(self, draft: Quantisable, plan: SolverPlan, images: QuantisationImages) -> None:
        plain = replace(draft.options, io_precision="fp32", include_preprocessing=False)
        self._draft = draft.variant(draft.backbone, plain)
        self._plan = plan
        self._images = images.validation
        self._probe = _every_nth(images.calibration, PROBE_IMAGES)
        self._labels = images.labels
        self._expected = self._embed(draft.backbone, self._images)
        self._expected_probe = self._embed(draft.backbone, self._probe)
        if self._labels is not None and math.isnan(self._map_at_r(self._expected)):
            self._labels = None  # no class has two images
        self.measure = "cosine" if self._labels is None else "MAP@R"
        self.float32 = self._score(self._expected)

    def score(self, backbone: ir.Model) -> Score:
        """Score the embeddings that this backbone gives the validation images."""
        return self._score(self._embed(backbone, self._images))

    def deviation(self, backbone: ir.Model) -> float:
        """Return the embeddings' error on 32 calibration images, relative to their spread.

        That is the RMS distance to float32's embeddings, divided by the RMS distance of float32's
        embeddings to their mean: 0 is exact, 1 is no better than that mean.
        """
        error = self._embed(backbone, self._probe) - self._expected_probe
        return float(np.sqrt(np.square(error).sum() / _spread(self._expected_probe)))

    def _score(self, embeddings: np.ndarray) -> Score:
        value = self._cosine(embeddings) if self._labels is None else self._map_at_r(embeddings)
        return Score(100 * value, 100 * self._overlap(embeddings))

    def _map_at_r(self, embeddings: np.ndarray) -> float:
        assert self._labels is not None
        return retrieval_metrics(embeddings, self._labels, ranks=(1,)).map_at_r

    def _cosine(self, embeddings: np.ndarray) -> float:
        """Return the mean cosine about float32's mean embedding.

        The mean is subtracted because, if all embeddings of a model are close together, cosines
        are near 1 even between images that the model must distinguish.
        """
        centre = self._expected.mean(axis=0)
        found, expected = embeddings - centre, self._expected - centre
        lengths = np.linalg.norm(found, axis=1) * np.linalg.norm(expected, axis=1)
        return float(((found * expected).sum(axis=1) / np.maximum(lengths, 1e-30)).mean())

    def _overlap(self, embeddings: np.ndarray) -> float:
        k = min(NEIGHBOURS, len(embeddings) - 1)
        if k < 1:
            return 1.0
        _, expected = neighbours(self._expected, k=k)
        _, found = neighbours(embeddings, k=k)
        return neighbour_overlap(expected, found)

    def _embed(self, backbone: ir.Model, images: Calibration) -> np.ndarray:
        """Return float64 embeddings `(n, D)` of all images, run by ONNX Runtime."""
        network = self._draft.variant(backbone).assemble(self._plan, ())
        with running(network) as graph:
            size = graph.input.shape[0] if isinstance(graph.input.shape[0], int) else _BATCH
            found = [
                graph.run(images.prepare(batch, graph.input.dtype), ("embedding",))["embedding"]
                for batch in images.batches(size)
            ]
        return np.concatenate(found)[: len(images.inputs)].astype(np.float64)


def _every_nth(images: Calibration, count: int) -> Calibration:
    step = max(1, len(images.inputs) // count)
    return replace(images, inputs=images.inputs[::step][:count])


def _spread(embeddings: np.ndarray) -> float:
    return max(float(np.square(embeddings - embeddings.mean(axis=0)).sum()), 1e-30)

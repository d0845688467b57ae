"""Measure the figures of a comparison, before the gates compare them with limits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gsp_deploy.errors import UsageError
from gsp_deploy.metrics import cosine_distances
from gsp_deploy.parity.comparison import (
    MixingWeightErrors,
    OutputErrors,
    mixing_weight_errors,
    output_errors,
)
from gsp_deploy.parity.distribution import Distribution
from gsp_deploy.parity.invariance import BatchInvariance
from gsp_deploy.parity.outputs import PairedOutputs
from gsp_deploy.parity.retrieval import RetrievalAgreement, retrieval_agreement


@dataclass(frozen=True, eq=False)
class ParityFigures:
    """All measured figures; None if one could not be measured, and `notes` says why.

    Attributes:
        outputs: errors of each output that both models have.
        cosine: 1 - cos of the embeddings, by image.
        weights: errors of the mixing weights against their spread.
        retrieval: neighbours, and R@1 and MAP@R with labels.
        invariance: the candidate's dependence on its batch.
        notes: what was not compared, why, and what to do.
        certificates: the candidate's own bounds and estimates of its error, by output.
    """

    outputs: tuple[OutputErrors, ...]
    cosine: Distribution
    weights: MixingWeightErrors | None
    retrieval: RetrievalAgreement | None
    invariance: BatchInvariance
    notes: tuple[str, ...]
    certificates: Mapping[str, Distribution] = field(default_factory=dict)


def measure(
    paired: PairedOutputs,
    labels: Sequence[Any] | np.ndarray | None,
    invariance: BatchInvariance,
) -> ParityFigures:
    """Measure the errors of outputs, and compare nearest neighbours.

    Args:
        paired: the outputs of both models for the same images.
        labels: a class for each image, of any kind; None leaves R@1 and MAP@R out.
        invariance: how much the candidate depends on its batch, already measured.

    Raises:
        UsageError: there is not one label per image.
    """
    expected, found = paired.reference, paired.candidate
    embeddings = (expected["embedding"], found["embedding"])
    weights = (
        mixing_weight_errors(expected["weights"], found["weights"], paired.head)
        if "weights" in expected
        else None
    )
    obstacle = _retrieval_obstacle(*embeddings)
    retrieval = None
    if obstacle is None:
        retrieval = retrieval_agreement(*embeddings, _class_numbers(labels, len(paired)))
    return ParityFigures(
        outputs=tuple(output_errors(name, expected[name], found[name]) for name in expected),
        cosine=Distribution(cosine_distances(*embeddings)),
        weights=weights,
        retrieval=retrieval,
        invariance=invariance,
        notes=(*paired.missing, *([obstacle] if obstacle else [])),
        certificates={name: Distribution(v) for name, v in paired.certificates.items()},
    )


def _retrieval_obstacle(reference: np.ndarray, candidate: np.ndarray) -> str | None:
    if len(reference) < 2:
        return "neighbours not compared: that takes at least 2 images"
    if not (np.isfinite(reference).all() and np.isfinite(candidate).all()):
        return "neighbours not compared: an embedding holds NaN or infinity"
    return None


def _class_numbers(labels: Sequence[Any] | np.ndarray | None, count: int) -> np.ndarray | None:
    if labels is None:
        return None
    numbers = np.unique(np.asarray(labels), return_inverse=True)[1]
    if numbers.shape != (count,):
        raise UsageError(f"expected one label per image, got {numbers.shape} for {count} images")
    return numbers.astype(np.int64)

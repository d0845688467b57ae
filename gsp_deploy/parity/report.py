"""Compare two sessions on the same images, and report figures and gates."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gsp_deploy.base.words import counted
from gsp_deploy.errors import DataError, GateError, UsageError
from gsp_deploy.parity.detail import note_on_detail
from gsp_deploy.parity.figures import ParityFigures, measure
from gsp_deploy.parity.gates import Gate, hold_gates
from gsp_deploy.parity.invariance import batch_invariance
from gsp_deploy.parity.outputs import PairedOutputs, prepared, run_both, shared_preprocessing
from gsp_deploy.precision import Tolerances, tolerances_for
from gsp_deploy.runtime.session import EmbeddingSession, SessionInfo

CHUNK = 32


@dataclass(frozen=True, eq=False)
class ParityReport:
    """A comparison with its verdict.

    Attributes:
        reference, candidate: the two sessions.
        ids: names of the images, in order.
        figures: the measured figures.
        tolerances: the limits.
        gates: each figure with its limit.
        skipped: images that could not be read, with the reason.
    """

    reference: SessionInfo
    candidate: SessionInfo
    ids: tuple[str, ...]
    figures: ParityFigures
    tolerances: Tolerances
    gates: tuple[Gate, ...]
    skipped: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Return the verdict in one line."""
        holding = sum(gate.passed for gate in self.gates)
        return (
            f"{self.candidate.path.name} against {self.reference.path.name}: {holding} of "
            f"{counted(len(self.gates), 'gate')} hold on {counted(len(self.ids), 'image')}, "
            f"1 - cosine {self.figures.cosine.maximum:.1e} at worst"
        )

    @property
    def passed(self) -> bool:
        """Whether every gate holds."""
        return all(gate.passed for gate in self.gates)

    def raise_on_failure(self) -> None:
        """Raise `GateError` with each gate that does not hold, its value and its limit."""
        failed = [gate for gate in self.gates if not gate.passed]
        if failed:
            raise GateError(
                f"{self.candidate.path.name}: {len(failed)} of {len(self.gates)} gates failed: "
                f"{'; '.join(str(gate) for gate in failed)}. Look for the cause with --layers; "
                "`gsp-deploy check --help` lists the options that set the limits"
            )

    def to_dict(self) -> dict[str, Any]:
        """Return the whole report as JSON-able data."""
        figures = self.figures
        return {
            "passed": self.passed,
            "reference": _describe(self.reference),
            "candidate": _describe(self.candidate),
            "images": len(self.ids),
            "ids": list(self.ids),
            "skipped": list(self.skipped),
            "gates": [gate.to_dict() for gate in self.gates],
            "tolerances": dataclasses.asdict(self.tolerances),
            "outputs": {errors.name: errors.to_dict() for errors in figures.outputs},
            "cosine_distance": figures.cosine.to_dict(),
            "weights": figures.weights and figures.weights.to_dict(),
            "certificates": {
                name: errors.to_dict() for name, errors in figures.certificates.items()
            },
            "retrieval": figures.retrieval and figures.retrieval.to_dict(),
            "batch_invariance": figures.invariance.to_dict(),
            "notes": list(figures.notes),
        }


def compare_sessions(
    reference: EmbeddingSession,
    candidate: EmbeddingSession,
    images: np.ndarray,
    labels: Sequence[Any] | np.ndarray | None = None,
    tolerances: Tolerances | None = None,
    ids: Sequence[str] | None = None,
) -> ParityReport:
    """Run the same images through two models and compare their differences with tolerances.

    Args:
        reference: the model to compare with.
        candidate: the model to check.
        images: uint8 `(n, H, W, 3)`, or float images as the sessions take them; at least one.
        labels: a class for each image, of any kind; without them R@1 and MAP@R are left out.
        tolerances: limits; None takes those of the candidate's precision.
        ids: names of the images; None numbers them.

    Raises:
        UsageError: the models prepare images differently, or shapes disagree.
        DataError: there is no image.
    """
    paired = run_both(reference, candidate, _chunks(images))
    names = tuple(ids) if ids is not None else tuple(str(i) for i in range(len(paired)))
    if len(names) != len(paired):
        raise UsageError(f"expected one id per image, got {len(names)} for {len(paired)}")
    tested = TestedImages(names, images[:CHUNK])
    return judge(reference, candidate, paired, tested, labels, tolerances)


@dataclass(frozen=True, eq=False)
class TestedImages:
    """The images of a comparison: their names, a few to test batching with, and those skipped."""

    ids: tuple[str, ...]
    sample: np.ndarray
    skipped: tuple[str, ...] = ()


def judge(
    reference: EmbeddingSession,
    candidate: EmbeddingSession,
    paired: PairedOutputs,
    images: TestedImages,
    labels: Sequence[Any] | np.ndarray | None,
    tolerances: Tolerances | None,
) -> ParityReport:
    """Measure given outputs and the candidate's batching, and return the report with its gates."""
    spec = shared_preprocessing(reference, candidate)
    invariance = batch_invariance(candidate, prepared(candidate, images.sample, spec))
    figures = measure(paired, labels, invariance)
    limits = tolerances or tolerances_for(candidate.info.precision)
    gates = hold_gates(figures, limits)
    remark = note_on_detail(paired.flat)
    if remark is not None and not all(gate.passed for gate in gates):
        figures = dataclasses.replace(figures, notes=(*figures.notes, remark))
    return ParityReport(
        reference.info, candidate.info, images.ids, figures, limits, gates, images.skipped
    )


def _chunks(images: np.ndarray) -> Iterator[np.ndarray]:
    if not len(images):
        raise DataError("a comparison needs at least one image, got none")
    return (images[start : start + CHUNK] for start in range(0, len(images), CHUNK))


def _describe(info: SessionInfo) -> dict[str, Any]:
    certificate = None if info.manifest is None else info.manifest.certificate
    return {
        "path": str(info.path),
        "runtime": info.runtime,
        "device": info.device,
        "precision": info.precision,
        "solver": None if certificate is None else dataclasses.asdict(certificate),
    }

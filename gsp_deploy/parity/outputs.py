"""Run both models on the same inputs, and pair the outputs that can be compared."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from gsp_deploy.artifact.tensors import CERTIFICATES
from gsp_deploy.config import GSPConfig, PreprocessingSpec
from gsp_deploy.errors import DataError, UsageError
from gsp_deploy.images.normalisation import normalise
from gsp_deploy.parity.detail import without_detail
from gsp_deploy.runtime.session import EmbeddingSession

COMPARABLE = ("embedding", "attributes", "weights")


@dataclass(frozen=True, eq=False)
class PairedOutputs:
    """The outputs of both models for the same images.

    Attributes:
        reference, candidate: outputs by name, `(n, ...)` each; only names that both models have.
        missing: one line per output that could not be compared: why, and what to do.
        certificates: the candidate's own bounds and estimates of its error, `(n,)` by output;
            empty if it has none.
        head: the GSP head of both models, None if neither side knows it.
        flat: which images are without detail, `(n,)`.
    """

    reference: dict[str, np.ndarray]
    candidate: dict[str, np.ndarray]
    missing: tuple[str, ...]
    certificates: dict[str, np.ndarray] = field(default_factory=dict)
    head: GSPConfig | None = None
    flat: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=bool))

    def __len__(self) -> int:
        return len(self.reference["embedding"])


def shared_preprocessing(
    reference: EmbeddingSession, candidate: EmbeddingSession
) -> PreprocessingSpec | None:
    """Return the preprocessing of both; None if neither has one (a head alone).

    Raises:
        UsageError: they differ; the fields are named.
    """
    first, second = reference.info.preprocessing, candidate.info.preprocessing
    if first is None or second is None:
        return first or second
    differences = [
        f"{f.name} ({getattr(first, f.name)} against {getattr(second, f.name)})"
        for f in dataclasses.fields(PreprocessingSpec)
        if getattr(first, f.name) != getattr(second, f.name)
    ]
    if differences:
        raise UsageError(
            f"{reference.info.path} and {candidate.info.path} prepare images differently: "
            f"{', '.join(differences)}; make both from the same model, with the same settings"
        )
    return first


def prepared(
    session: EmbeddingSession, images: np.ndarray, spec: PreprocessingSpec | None
) -> np.ndarray:
    """Return images as this session takes them; without a manifest it uses the other's."""
    alone = session.info.preprocessing is None and session.info.input.dtype != "uint8"
    if alone and spec is not None and images.dtype == np.uint8:
        return normalise(images, spec)
    return images


def run_both(
    reference: EmbeddingSession,
    candidate: EmbeddingSession,
    batches: Iterable[np.ndarray],
) -> PairedOutputs:
    """Run every batch through both models.

    Args:
        reference, candidate: open sessions.
        batches: uint8 `(B, H, W, 3)` images, or float images as the sessions take them.

    Raises:
        UsageError: the models prepare images differently, or an output's shape differs.
        DataError: there is no image.
    """
    spec = shared_preprocessing(reference, candidate)
    names = [name for name in COMPARABLE if name in reference.info.outputs]
    names = [name for name in names if name in candidate.info.outputs]
    certificates = [name for name in CERTIFICATES if name in candidate.info.outputs]
    sides: tuple[list[dict[str, np.ndarray]], ...] = ([], [])
    flat: list[np.ndarray] = []
    for batch in batches:
        flat.append(without_detail(batch))
        for session, found, more in zip(
            (reference, candidate), sides, ([], certificates), strict=True
        ):
            with naming(session.info.path):
                found.append(session.run(prepared(session, batch, spec), [*names, *more]))
    if not sides[0]:
        raise DataError("a comparison needs at least one image, got none")
    first, second = (_joined(found, names) for found in sides)
    _check_shapes(first, second, reference, candidate)
    certified = _joined(sides[1], certificates)
    return PairedOutputs(
        reference=first,
        candidate=second,
        missing=tuple(_missing(reference, candidate)),
        certificates=certified,
        head=_known_head(reference, candidate),
        flat=np.concatenate(flat),
    )


def _joined(found: list[dict[str, np.ndarray]], names: list[str]) -> dict[str, np.ndarray]:
    return {name: np.concatenate([batch[name] for batch in found]) for name in names}


def _check_shapes(
    expected: dict[str, np.ndarray],
    found: dict[str, np.ndarray],
    reference: EmbeddingSession,
    candidate: EmbeddingSession,
) -> None:
    for name, values in expected.items():
        shape = found[name].shape
        if shape != values.shape:
            raise UsageError(
                f"output {name} is {values.shape[1:]} in the reference {reference.info.path} and "
                f"{shape[1:]} in the candidate {candidate.info.path}; they are not two forms of "
                "one model"
            )


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Add the model's file to an error that does not name it, because two models run here."""
    try:
        yield
    except UsageError as error:
        if str(path) in str(error):
            raise
        raise UsageError(f"{path}: {error}") from error


def _missing(reference: EmbeddingSession, candidate: EmbeddingSession) -> Iterator[str]:
    """Yield a line for each output that cannot be compared."""
    sides = ((reference, candidate), (candidate, reference))
    for name in COMPARABLE[1:]:
        for having, lacking in sides:
            if name in having.info.outputs and name not in lacking.info.outputs:
                yield (
                    f"{name} not compared: {lacking.info.path.name} does not return them; "
                    f"export it with --also {name}"
                )
        absent = all(name not in side.info.outputs for side, _ in sides)
        if absent and any(_has_transport(side) for side, _ in sides):
            yield f"{name} not compared: neither model returns them; export with --also {name}"


def _known_head(*sessions: EmbeddingSession) -> GSPConfig | None:
    """Return the first GSP head that a manifest names."""
    manifests = (session.info.manifest for session in sessions)
    heads = (manifest.model.head for manifest in manifests if manifest is not None)
    return next((head for head in heads if isinstance(head, GSPConfig)), None)


def _has_transport(session: EmbeddingSession) -> bool:
    """Whether this is known to be GSP, which has weights and attributes, and not a baseline."""
    manifest = session.info.manifest
    return manifest is not None and manifest.certificate is not None

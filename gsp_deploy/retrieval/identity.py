"""Identify the model of an embedding, and decide whether two models' embeddings are comparable.

1. The same model with the same pre-processing: yes.
2. Files from the same checkpoint, with the same pooling, pre-processing and precision: yes.
   Runtime, opset and solver may differ, because the exported model was checked against the
   checkpoint. If the precision differs, if one solver stopped before it had converged, or if large
   JPEG files were reduced for one of them alone, the search runs with a warning, because near
   neighbours may change places.
3. Anything else: no. Distances between embeddings of different models mean nothing.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from gsp_deploy.artifact import ExportManifest, read_sidecar
from gsp_deploy.artifact.identity import identity
from gsp_deploy.artifact.kind import CHECKPOINT, ONNX, kind_of
from gsp_deploy.base.words import counted
from gsp_deploy.config import SOLVER_SETTINGS, PreprocessingSpec
from gsp_deploy.errors import UsageError
from gsp_deploy.images.reduction import refuse_unaveraged
from gsp_deploy.runtime import EmbeddingSession
from gsp_deploy.runtime.session import SessionInfo

_SHORT = 12


@dataclass(frozen=True)
class ModelIdentity:
    """Identity of the model that filled an index.

    Attributes:
        file: name of the model file.
        sha256: the file's hash.
        checkpoint_sha256: hash of the model's checkpoint; None if no manifest beside the model
            records it.
        precision: `fp32`, `fp16`, `bf16`, `int8`, or `unknown`.
        embedding_dim: D.
        pooling: the head's settings, without the solver's; None if the model does not record them.
        preprocessing: how an image becomes the input.
        solution: `converged`, or the solver and its steps if the certificate reports that it did
            not converge; None without a certificate.
        reduced_jpeg: whether large JPEG files were decoded at a fraction of their size.
    """

    file: str
    sha256: str
    checkpoint_sha256: str | None
    precision: str
    embedding_dim: int
    pooling: dict[str, Any] | None
    preprocessing: PreprocessingSpec
    solution: str | None = None
    reduced_jpeg: bool = False

    def warn_or_refuse(self, other: ModelIdentity, what: str = "queries") -> str | None:
        """Return a warning if `other` may use this model's index but near neighbours may differ.

        Return None if that needs no warning.

        Args:
            other: the model of embeddings that search the index, or that go into it.
            what: those embeddings, in a word for the messages.

        Raises:
            UsageError: `other` may not use the index; the module's docstring has the rule.
        """
        if why := self._difference(other):
            raise UsageError(
                f"the index is from {self._named()}, but the {what} are from {other._named()}: "
                f"{why}; take the index's model, or index again"
            )
        if other.precision != self.precision:
            return (
                f"the index is in {self.precision} and the {what} are in {other.precision}, from "
                "the same checkpoint: near neighbours may change places"
            )
        if other.reduced_jpeg != self.reduced_jpeg:
            return (
                f"large JPEG files were decoded {_decoding(self)} for the index and "
                f"{_decoding(other)} for the {what}: near neighbours may change places"
            )
        if None not in (self.solution, other.solution) and self.solution != other.solution:
            return (
                f"the pooling is solved differently (index: {self.solution}; {what}: "
                f"{other.solution}): near neighbours may change places"
            )
        return None

    def _difference(self, other: ModelIdentity) -> str | None:
        if self.sha256 != other.sha256:
            if None in (self.checkpoint_sha256, other.checkpoint_sha256):
                return "one of them has no manifest beside it that records its checkpoint"
            if self.checkpoint_sha256 != other.checkpoint_sha256:
                return "they are from different checkpoints"
        known = None not in (self.pooling, other.pooling)
        if self.embedding_dim != other.embedding_dim or (known and self.pooling != other.pooling):
            return "their pooling has different settings"
        if self.preprocessing != other.preprocessing:
            return "they prepare images differently"
        return None

    def _named(self) -> str:
        return f"{self.file} ({self.precision}, SHA-256 {self.sha256[:_SHORT]})"


def identity_of(session: EmbeddingSession, *, reduced_jpeg: bool = False) -> ModelIdentity:
    """Return the identity of an open model.

    Args:
        session: the model.
        reduced_jpeg: whether its images are decoded at a fraction of their size.

    Raises:
        UsageError: the model does not record its pre-processing, or its images cannot be reduced.
    """
    info, manifest = session.info, session.info.manifest
    spec = info.require_preprocessing()
    if reduced_jpeg:
        refuse_unaveraged(spec)
    digest = identity(info.path)
    return ModelIdentity(
        file=info.path.name,
        sha256=digest,
        checkpoint_sha256=_checkpoint_of(info, digest),
        precision=info.precision,
        embedding_dim=info.embedding_dim,
        pooling=None if manifest is None else _pooling(manifest),
        preprocessing=spec,
        solution=None if manifest is None else _solution(manifest),
        reduced_jpeg=reduced_jpeg,
    )


def _checkpoint_of(info: SessionInfo, digest: str) -> str | None:
    """Return the hash of a model's checkpoint, or None if no manifest proves it.

    The manifest beside an ONNX file has the hash of the weights. The one inside it has not, so it
    would stay the same if somebody altered them.
    """
    if kind_of(info.path) is CHECKPOINT:
        return digest
    if kind_of(info.path) is not ONNX:
        return None if info.manifest is None else info.manifest.source_sha256
    beside = read_sidecar(info.path)
    return beside.source_sha256 if beside is not None and beside.sha256 == digest else None


def _decoding(identity: ModelIdentity) -> str:
    return "at a fraction of their size" if identity.reduced_jpeg else "whole"


def _pooling(manifest: ExportManifest) -> dict[str, Any]:
    head = dataclasses.asdict(manifest.model.head)
    return _plain({key: value for key, value in head.items() if key not in SOLVER_SETTINGS})


def _solution(manifest: ExportManifest) -> str | None:
    certificate = manifest.certificate
    if certificate is None:
        return None
    if certificate.is_converged:
        return "converged"
    return f"{counted(certificate.steps, f'{certificate.solver} step')} and not converged"


def _plain(settings: dict[str, Any]) -> dict[str, Any]:
    """Return settings in the form that JSON reads back: lists instead of tuples."""
    return {k: list(v) if isinstance(v, tuple) else v for k, v in settings.items()}

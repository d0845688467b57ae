"""Which model made an embedding, and whether embeddings of two models may be compared.

1. The same model, with the same pre-processing beside it: yes.
2. Files made from the same checkpoint, with the same pooling and the same pre-processing: yes, if
   they compute in the same precision (runtime, opset and solver may differ: they are proven equal
   to it). In another precision, or where one of the solvers stopped before it had converged, the
   neighbours may change places: searched, and warned.
3. Anything else: no. Distances between embeddings of two models mean nothing.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from gsp_deploy.artifact import ExportManifest
from gsp_deploy.artifact.identity import identity
from gsp_deploy.artifact.kind import CHECKPOINT, kind_of
from gsp_deploy.base.words import counted
from gsp_deploy.config import PreprocessingSpec
from gsp_deploy.errors import UsageError
from gsp_deploy.runtime import EmbeddingSession

# How the weights are solved for, which changes nothing where it has converged.
_SOLVING = ("solver", "iterations", "initial_scale")
_SHORT = 12


@dataclass(frozen=True)
class ModelIdentity:
    """What an index remembers of the model that filled it.

    Attributes:
        file: the model file, as it was named.
        sha256: the file's hash.
        checkpoint_sha256: hash of the checkpoint that it was made from; None if it does not say.
        precision: `fp32`, `fp16`, `bf16`, `int8`, or `unknown`.
        embedding_dim: D.
        pooling: the head's settings, without the solver's; None if it does not say.
        preprocessing: how an image becomes the input.
        solution: `converged`, or the solver and its steps where the certificate says that it has
            not; None if it does not say.
    """

    file: str
    sha256: str
    checkpoint_sha256: str | None
    precision: str
    embedding_dim: int
    pooling: dict[str, Any] | None
    preprocessing: PreprocessingSpec
    solution: str | None = None

    def warn_or_refuse(self, other: ModelIdentity) -> str | None:
        """Return a warning where `other` may search what this one filled, or None if all is well.

        Raises:
            UsageError: it may not; see the rule above.
        """
        if why := self._difference(other):
            raise UsageError(
                f"the index was filled by {self._named()}, the queries are of {other._named()}: "
                f"{why}; search with the model that filled it, or index again"
            )
        if other.precision != self.precision:
            return (
                f"the index was filled in {self.precision} and the queries are in "
                f"{other.precision}, of the same checkpoint: near neighbours may change places"
            )
        if None not in (self.solution, other.solution) and self.solution != other.solution:
            return (
                f"the pooling is solved differently (index: {self.solution}; queries: "
                f"{other.solution}): near neighbours may change places"
            )
        return None

    def _difference(self, other: ModelIdentity) -> str | None:
        if self.sha256 != other.sha256:
            if None in (self.checkpoint_sha256, other.checkpoint_sha256):
                return "one of them does not say which checkpoint it is of"
            if self.checkpoint_sha256 != other.checkpoint_sha256:
                return "they are of different checkpoints"
        known = None not in (self.pooling, other.pooling)
        if self.embedding_dim != other.embedding_dim or (known and self.pooling != other.pooling):
            return "their pooling is set differently"
        if self.preprocessing != other.preprocessing:
            return "they prepare images differently"
        return None

    def _named(self) -> str:
        return f"{self.file} ({self.precision}, SHA-256 {self.sha256[:_SHORT]})"


def identity_of(session: EmbeddingSession) -> ModelIdentity:
    """Return the identity of an open model.

    Raises:
        UsageError: it does not say how images are prepared.
    """
    info, manifest = session.info, session.info.manifest
    spec = info.require_preprocessing()
    digest = identity(info.path)
    is_checkpoint = kind_of(info.path) is CHECKPOINT
    source = digest if is_checkpoint else (manifest.source_sha256 if manifest else None)
    return ModelIdentity(
        file=info.path.name,
        sha256=digest,
        checkpoint_sha256=source,
        precision=info.precision,
        embedding_dim=info.embedding_dim,
        pooling=None if manifest is None else _pooling(manifest),
        preprocessing=spec,
        solution=None if manifest is None else _solution(manifest),
    )


def _pooling(manifest: ExportManifest) -> dict[str, Any]:
    head = dataclasses.asdict(manifest.model.head)
    return _plain({key: value for key, value in head.items() if key not in _SOLVING})


def _solution(manifest: ExportManifest) -> str | None:
    certificate = manifest.certificate
    if certificate is None:
        return None
    if certificate.is_converged:
        return "converged"
    return f"{counted(certificate.steps, f'{certificate.solver} step')} and not converged"


def _plain(settings: dict[str, Any]) -> dict[str, Any]:
    """Return settings as JSON gives them back."""
    return {k: list(v) if isinstance(v, tuple) else v for k, v in settings.items()}

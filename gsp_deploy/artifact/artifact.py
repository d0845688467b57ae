"""A model on disk: its path, its kind and its manifest."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from gsp_deploy.artifact.engine_manifest import EngineManifest
from gsp_deploy.artifact.export_manifest import ExportManifest
from gsp_deploy.artifact.kind import Kind, require_kind

M = TypeVar("M", covariant=True)


@dataclass(frozen=True)
class Artifact(Generic[M]):
    """A model on disk, its kind, and its manifest.

    Attributes:
        path: the file, or the folder of a bundle.
        kind: its row of `KINDS`.
        manifest: its manifest, or None if it has none.
    """

    path: Path
    kind: Kind
    manifest: M

    @classmethod
    def of(cls, path: str | os.PathLike[str]) -> Artifact[Any]:
        """Read the manifest of a model of any kind.

        Raises:
            UsageError: the path does not name a known kind of model.
            ModelFileError, CheckpointError: the model is missing, or it or its manifest is damaged.
        """
        source = Path(path)
        kind = require_kind(source)
        return Artifact(source, kind, kind.read_manifest(source))

    @property
    def engine(self) -> EngineManifest | None:
        """Its manifest, if it is an engine."""
        return self.manifest if isinstance(self.manifest, EngineManifest) else None

    @property
    def export(self) -> ExportManifest | None:
        """The export's manifest: the model's own, or that of the ONNX file behind an engine."""
        if isinstance(self.manifest, EngineManifest):
            return self.manifest.export
        return self.manifest if isinstance(self.manifest, ExportManifest) else None

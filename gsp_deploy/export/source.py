"""Where an exported model came from, as the manifest records it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from gsp_deploy.base.files import sha256_of
from gsp_deploy.checkpoint import read_metadata

# Packages whose versions a manifest records.
EXPORT_PACKAGES = ("torch", "timm", "onnx", "onnxscript", "onnxruntime")


@dataclass(frozen=True)
class Source:
    """Where the model came from: the checkpoint's hash and what it says of its weights."""

    sha256: str | None = None
    provenance: dict[str, object] | None = None

    @classmethod
    def of(cls, checkpoint: Path) -> Source:
        """Describe a checkpoint file; a bare state dict has no provenance."""
        metadata = read_metadata(checkpoint)
        provenance = None if metadata is None else asdict(metadata.provenance)
        return cls(sha256_of(checkpoint), provenance)

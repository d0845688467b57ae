"""Where an exported model came from, and its tensors, as the manifest records them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import onnx_ir as ir

from gsp_deploy.artifact import TensorSpec
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


def tensor_spec(value: ir.Value) -> TensorSpec:
    """Describe an input or output of a graph."""
    assert value.shape is not None
    assert value.dtype is not None
    assert value.name is not None
    shape = tuple(d if isinstance(d, int) else str(d) for d in value.shape)
    return TensorSpec(value.name, value.dtype.numpy().name, shape)

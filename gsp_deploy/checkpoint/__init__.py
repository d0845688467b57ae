"""Checkpoints: safetensors with the whole config in their metadata, or the authors' state dict.

Nothing here unpickles: `.pt` files are read with `weights_only=True`, which refuses anything but
tensors and plain containers.
"""

from __future__ import annotations

from gsp_deploy.checkpoint.loading import load_checkpoint
from gsp_deploy.checkpoint.metadata import (
    METADATA_KEY,
    CheckpointMetadata,
    Provenance,
    parse_header,
)
from gsp_deploy.checkpoint.reading import CheckpointContents, read_checkpoint, read_metadata
from gsp_deploy.checkpoint.saving import save_checkpoint
from gsp_deploy.checkpoint.trial import check_runs

__all__ = [
    "METADATA_KEY",
    "CheckpointContents",
    "CheckpointMetadata",
    "Provenance",
    "check_runs",
    "load_checkpoint",
    "parse_header",
    "read_checkpoint",
    "read_metadata",
    "save_checkpoint",
]

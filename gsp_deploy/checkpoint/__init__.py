"""Read and write checkpoints: our safetensors with the config inside, or the authors' own files.

No code in a file ever runs: `.pt` files are read with `weights_only=True`, so PyTorch accepts only
tensors and plain containers.
"""

from __future__ import annotations

from gsp_deploy.checkpoint.adopting import adopt_layer
from gsp_deploy.checkpoint.loading import load_checkpoint, usual_preprocessing
from gsp_deploy.checkpoint.metadata import (
    METADATA_KEY,
    CheckpointMetadata,
    Provenance,
    parse_header,
)
from gsp_deploy.checkpoint.own_weights import load_weights
from gsp_deploy.checkpoint.reading import CheckpointContents, read_checkpoint, read_metadata
from gsp_deploy.checkpoint.saving import save_checkpoint
from gsp_deploy.checkpoint.trial import check_runs

__all__ = [
    "METADATA_KEY",
    "CheckpointContents",
    "CheckpointMetadata",
    "Provenance",
    "adopt_layer",
    "check_runs",
    "load_checkpoint",
    "load_weights",
    "parse_header",
    "read_checkpoint",
    "read_metadata",
    "save_checkpoint",
    "usual_preprocessing",
]

"""Metadata in our checkpoints: the model's config, and the origin of the weights."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from gsp_deploy.base.schema import from_data
from gsp_deploy.config import ModelConfig
from gsp_deploy.errors import CheckpointError, brief, reason_of

FORMAT_VERSION = 1
METADATA_KEY = "gsp_deploy"  # only one key: safetensors writes several in random order
DIGEST = "sha256"


@dataclass(frozen=True)
class Provenance:
    """Origin of the weights; every artifact made from them contains it.

    Attributes:
        license: SPDX identifier of the weights' licence, or None if unknown.
        dataset: specification of the training data.
        command: the command that made the checkpoint.
        metrics: validation metrics at the time of saving, in [0, 1].
        notes: anything else that a user of the weights should know.
    """

    license: str | None = None
    dataset: str | None = None
    command: str | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    notes: str | None = None


@dataclass(frozen=True)
class CheckpointMetadata:
    """A checkpoint's metadata: the model's config and the origin of the weights."""

    model: ModelConfig
    provenance: Provenance


def parse_header(header: str, path: str | os.PathLike[str]) -> CheckpointMetadata:
    """Parse the metadata of one of our checkpoints.

    Raises:
        CheckpointError: the text is not JSON, has another format version, or contains an invalid
            config.
    """
    try:
        data = json.loads(header)
        if not isinstance(data, dict):
            raise CheckpointError(f"{path}: the checkpoint's metadata is not a table of settings")
        if data.get("format") != FORMAT_VERSION:
            raise CheckpointError(
                f"{path}: checkpoint format {brief(data.get('format'))}, this version reads "
                f"{FORMAT_VERSION}; update gsp-deploy or save the checkpoint again"
            )
        provenance = from_data(Provenance, data.get("provenance", {}), "provenance")
        model = ModelConfig.from_dict(data.get("model", {}))
        head = model.trained_head  # an adopted network is never in a checkpoint
        return CheckpointMetadata(dataclasses.replace(model, head=head), provenance)
    except (ValueError, TypeError, RecursionError) as error:  # includes JSON's and ConfigError
        raise CheckpointError(
            f"{path}: the checkpoint's metadata is damaged: {reason_of(error)}"
        ) from error

"""What a checkpoint of ours says of itself: the model's config, and where its weights come from."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from gsp_deploy.base.schema import from_data
from gsp_deploy.config import ModelConfig
from gsp_deploy.errors import CheckpointError, brief, reason_of

FORMAT_VERSION = 1
METADATA_KEY = "gsp_deploy"  # one alone: safetensors writes several in any order
DIGEST = "sha256"


@dataclass(frozen=True)
class Provenance:
    """Where weights come from; travels with them into every artifact.

    Attributes:
        license: SPDX identifier of the weights, or None when unknown.
        dataset: specification of the training data.
        command: the command that made the checkpoint.
        metrics: validation metrics at the time of saving, in [0, 1].
        notes: anything else a reader should know.
    """

    license: str | None = None
    dataset: str | None = None
    command: str | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    notes: str | None = None


@dataclass(frozen=True)
class CheckpointMetadata:
    """What a checkpoint says of itself."""

    model: ModelConfig
    provenance: Provenance


def parse_header(header: str, path: str | os.PathLike[str]) -> CheckpointMetadata:
    """Parse the metadata of a checkpoint of ours.

    Raises:
        CheckpointError: it is not JSON, of a newer format, or holds an invalid config.
    """
    try:
        data = json.loads(header)
        if not isinstance(data, dict):
            raise CheckpointError(f"{path}: the checkpoint's metadata is no table of settings")
        if data.get("format") != FORMAT_VERSION:
            raise CheckpointError(
                f"{path}: checkpoint format {brief(data.get('format'))}, this version reads "
                f"{FORMAT_VERSION}; update gsp-deploy or save the checkpoint again"
            )
        provenance = from_data(Provenance, data.get("provenance", {}), "provenance")
        return CheckpointMetadata(ModelConfig.from_dict(data.get("model", {})), provenance)
    except (ValueError, TypeError, RecursionError) as error:  # JSON's and config's among them
        raise CheckpointError(
            f"{path}: the checkpoint's metadata is damaged: {reason_of(error)}"
        ) from error

"""Write a model as a checkpoint that contains everything to build it again."""

from __future__ import annotations

import dataclasses
import json
import os

from safetensors.torch import save

from gsp_deploy.base.files import replacing
from gsp_deploy.checkpoint.integrity import digest_of
from gsp_deploy.checkpoint.metadata import DIGEST, FORMAT_VERSION, METADATA_KEY, Provenance
from gsp_deploy.errors import UsageError
from gsp_deploy.model import EmbeddingModel


def save_checkpoint(
    model: EmbeddingModel, path: str | os.PathLike[str], provenance: Provenance | None = None
) -> None:
    """Write the model's weights and config to a `.safetensors` file, whole or not at all.

    The file also contains a digest of both, so that `read_checkpoint` can detect damage. A weight
    that the network uses under several names is stored under each of them.

    Raises:
        UsageError: the backbone is a network of your own; no config can build it again.
    """
    if model.is_own:
        raise UsageError(
            f"{model.config.backbone} is a network of your own, which no checkpoint describes; "
            "save model.state_dict() as .safetensors, and export with a factory and --weights"
        )
    fields = {
        "format": FORMAT_VERSION,
        "model": model.config.to_dict(),
        "provenance": dataclasses.asdict(provenance or Provenance()),
    }
    # Copies: safetensors refuses tensors that share memory.
    tensors = {name: t.cpu().clone().contiguous() for name, t in model.state_dict().items()}
    fields[DIGEST] = digest_of(tensors, fields)
    content = save(tensors, metadata={METADATA_KEY: json.dumps(fields, sort_keys=True)})
    with replacing(path) as temporary:
        temporary.write_bytes(content)  # safetensors' own writer denies other users access

"""Write the twin of a checkpoint: the same weights with average pooling instead of GSP."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from gsp_deploy.checkpoint import save_checkpoint
from gsp_deploy.config import GSPConfig
from gsp_deploy.errors import ModelFileError
from gsp_deploy.export.twin import average_pooling_of
from gsp_deploy.model import EmbeddingModel


def write_checkpoint_twin(model: EmbeddingModel, target: Path) -> None:
    """Save the model with `BaselinePooling` as its head and everything else unchanged.

    Raises:
        ModelFileError: the model has no GSP head.
    """
    head = model.config.head
    if not isinstance(head, GSPConfig):
        raise ModelFileError(f"expected a model with a GSP head, got {head.in_words}")
    twin = EmbeddingModel(replace(model.config, head=average_pooling_of(head)))
    weights = model.state_dict()
    twin.load_state_dict({name: weights[name] for name in twin.state_dict()})
    save_checkpoint(twin, target)

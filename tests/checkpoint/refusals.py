"""Save models, edit their metadata, and check that a file is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from gsp_deploy.checkpoint import load_checkpoint
from gsp_deploy.config import BaselineConfig, GSPConfig, ModelConfig
from gsp_deploy.errors import CheckpointError, ConfigError
from gsp_deploy.model import EmbeddingModel

Edit = Callable[[dict[str, Any]], object]


def head_model(head: GSPConfig | BaselineConfig) -> EmbeddingModel:
    torch.manual_seed(1)
    return EmbeddingModel(ModelConfig("features", head, None)).eval()


def put(*path: str, value: object) -> Edit:
    """Return an edit that sets one setting of the header."""

    def edit(data: dict[str, Any]) -> None:
        for key in path[:-1]:
            data = data[key]
        data[path[-1]] = value

    return edit


def refusal(path: Path) -> str | None:
    """Return the message with which a file is refused, or None where it loads."""
    try:
        load_checkpoint(path)
    except (CheckpointError, ConfigError) as error:
        return str(error)
    return None


def assert_refused(path: Path, *named: str) -> None:
    message = refusal(path)
    assert message is not None
    assert "\n" not in message
    assert all(word in message for word in named)

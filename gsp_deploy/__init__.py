"""gsp-deploy: from a Generalized Sum Pooling checkpoint to proven, embeddable artifacts."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from gsp_deploy.config import BaselineConfig, GSPConfig, ModelConfig, PreprocessingSpec

if TYPE_CHECKING:
    from gsp_deploy.checkpoint import adopt_layer, load_checkpoint
    from gsp_deploy.layers import GeneralizedSumPooling
    from gsp_deploy.model import EmbeddingModel
    from gsp_deploy.runtime import open_session

__version__ = "0.1.0"

__all__ = [
    "BaselineConfig",
    "EmbeddingModel",
    "GSPConfig",
    "GeneralizedSumPooling",
    "ModelConfig",
    "PreprocessingSpec",
    "adopt_layer",
    "load_checkpoint",
    "open_session",
]

# Names whose modules need torch or a runtime are imported on first use (PEP 562), so that a
# deployment without torch can import gsp_deploy.runtime.
_HOMES = {
    "EmbeddingModel": "gsp_deploy.model",
    "GeneralizedSumPooling": "gsp_deploy.layers",
    "adopt_layer": "gsp_deploy.checkpoint",
    "load_checkpoint": "gsp_deploy.checkpoint",
    "open_session": "gsp_deploy.runtime",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)

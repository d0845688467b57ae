"""Run a checkpoint with PyTorch: the reference for every exported model."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from gsp_deploy.artifact import TensorSpec
from gsp_deploy.artifact.tensors import OUTPUTS
from gsp_deploy.base.words import counted
from gsp_deploy.checkpoint import load_checkpoint
from gsp_deploy.config import BaselineConfig, GSPConfig
from gsp_deploy.errors import MissingCapabilityError, UsageError
from gsp_deploy.layers import GeneralizedSumPooling
from gsp_deploy.model import EmbeddingModel
from gsp_deploy.runtime.session import Capability, EmbeddingSession, SessionInfo, SessionOptions

_SETTING = threading.Lock()


class TorchSession(EmbeddingSession):
    """Embeds with PyTorch, in float32."""

    def __init__(self, path: Path, options: SessionOptions) -> None:
        if options.provider is not None:
            raise UsageError(f"{path}: a checkpoint runs in PyTorch and takes no provider")
        self._device = _device_of(options)
        self._threads = options.threads
        self.model: EmbeddingModel = load_checkpoint(path).to(self._device)
        super().__init__(_describe(path, self.model, options), options)

    def infer(self, inputs: np.ndarray, outputs: Sequence[str]) -> Mapping[str, np.ndarray]:
        """Run one batch; an empty one gives empty outputs."""
        if self._threads is not None:
            torch.set_num_threads(self._threads)
        with torch.inference_mode(), whole_float32(self._device):
            batch = torch.from_numpy(np.ascontiguousarray(inputs)).to(self._device)
            found = self.model(batch)._asdict()
        return {name: found[name].float().cpu().numpy() for name in outputs}

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What this session can do beside `embed` and `run`."""
        has_scores = isinstance(self.model.head, GeneralizedSumPooling)
        return frozenset(("prototype_scores",)) if has_scores else frozenset()

    def prototype_scores(self, images: np.ndarray) -> np.ndarray:
        """Return -gamma c of each prototype at each location, float32 `(B, M, h, w)`."""
        head = self.model.head
        if not isinstance(head, GeneralizedSumPooling):
            raise self._cannot("prototype_scores")
        with torch.inference_mode(), whole_float32(self._device):
            pixels = torch.from_numpy(self.prepare(images)).to(self._device)
            scores: np.ndarray = head.scores(self.model.features(pixels)).float().cpu().numpy()
        return scores

    def close(self) -> None:
        """Release the model and its memory."""
        if not self.closed:
            del self.model
        self.closed = True


def _device_of(options: SessionOptions) -> torch.device:
    device = torch.device(options.device)
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device.type == "cuda" and options.device_index >= count:
        raise MissingCapabilityError(
            f"device {options.device} was asked for, but PyTorch sees "
            f"{counted(count, 'CUDA device')} here"
        )
    return device


@contextmanager
def whole_float32(device: torch.device) -> Iterator[None]:
    """Turn off TF32 in cuDNN's convolutions while the block runs; PyTorch allows it by default.

    The setting belongs to the process: one session holds it at a time, and restores it.
    """
    if device.type != "cuda":
        yield
        return
    with _SETTING:
        before = torch.backends.cudnn.allow_tf32
        torch.backends.cudnn.allow_tf32 = False
        try:
            yield
        finally:
            torch.backends.cudnn.allow_tf32 = before


def _describe(path: Path, model: EmbeddingModel, options: SessionOptions) -> SessionInfo:
    config = model.config
    spec = config.preprocessing
    shape = (
        ("batch", config.trained_head.in_channels, "height", "width")
        if spec is None
        else ("batch", 3, spec.height, spec.width)
    )
    return SessionInfo(
        path=path,
        runtime=f"torch {torch.__version__}",
        device=options.device,
        precision="fp32",
        input=TensorSpec("images" if spec else "features", "float32", shape),
        outputs=_outputs(config.trained_head),
        embedding_dim=config.head.embedding_dim,
        preprocessing=spec,
        config=config,
    )


def _outputs(head: GSPConfig | BaselineConfig) -> tuple[str, ...]:
    if isinstance(head, BaselineConfig):
        return ("embedding",)
    has_bound = head.pooling == "gap"
    return tuple(name for name in OUTPUTS if has_bound or name != "embedding_bound")

"""Running a model wherever it ended up: one interface over torch and ONNX Runtime.

Importing this package needs numpy only; each session imports its runtime when it is opened.

    with open_session("model.onnx") as session:
        embeddings = session.embed(images)
"""

from __future__ import annotations

import os
from pathlib import Path

from gsp_deploy.errors import MissingCapabilityError, UsageError
from gsp_deploy.runtime.session import EmbeddingSession, SessionOptions

__all__ = ["EmbeddingSession", "SessionOptions", "open_session"]

CHECKPOINTS = (".safetensors", ".pt", ".pth")


def open_session(
    path: str | os.PathLike[str],
    device: str = "cpu",
    *,
    threads: int | None = None,
    provider: str | None = None,
    max_batch: int = 64,
) -> EmbeddingSession:
    """Open a model file for embedding; its suffix tells the runtime.

    Args:
        path: `.safetensors`, `.pt` (PyTorch) or `.onnx` (ONNX Runtime).
        device: `cpu`, `cuda` or `cuda:N`.
        threads: threads of one inference; None leaves it to the runtime.
        provider: ONNX Runtime's execution provider, such as `CUDAExecutionProvider` or `cuda`;
            None takes the one that the device implies.
        max_batch: images that go through the network at once; more are chunked.

    Raises:
        UsageError: the suffix or an option is unknown.
        ModelFileError, CheckpointError: the file is missing or damaged.
        MissingCapabilityError: this machine lacks the runtime, the device or the provider.
    """
    source = Path(path)
    options = SessionOptions(device, threads, provider, max_batch)
    try:
        if source.suffix == ".onnx":
            from gsp_deploy.runtime.onnx_session import OnnxSession

            return OnnxSession(source, options)
        if source.suffix in CHECKPOINTS:
            from gsp_deploy.runtime.torch_session import TorchSession

            return TorchSession(source, options)
    except ModuleNotFoundError as error:
        extra = "cpu" if source.suffix == ".onnx" else "train"
        raise MissingCapabilityError(
            f"{source}: needs the package {error.name!r}, which is not installed: "
            f"pip install 'gsp-deploy[{extra}]'"
        ) from error
    raise UsageError(
        f"{source}: expected a model ending in .onnx, {', '.join(CHECKPOINTS)}, "
        f"got {source.suffix or 'no suffix'}"
    )

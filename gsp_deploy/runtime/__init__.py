"""Running a model wherever it ended up: one interface over torch, ONNX Runtime and TensorRT.

Importing this package needs numpy only; each session imports its runtime when it is opened.

    with open_session("model.onnx") as session:
        embeddings = session.embed(images)

What is stable: the names in `__all__` with their documented parameters, attributes and errors, and
what is documented of the sessions they return. Within a major version they only grow: new names,
and new parameters that have defaults. Everything else in here may change at any time.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from gsp_deploy.artifact.kind import kind_of, require_kind
from gsp_deploy.base.choices import CudaApi, Wait
from gsp_deploy.runtime.session import EmbeddingSession, SessionInfo, SessionOptions

__all__ = [
    "EmbeddingSession",
    "SessionInfo",
    "SessionOptions",
    "implied_device",
    "open_session",
    "open_with",
]


def open_session(
    path: str | os.PathLike[str],
    device: str | None = None,
    *,
    threads: int | None = None,
    provider: str | None = None,
    max_batch: int = 64,
    provider_options: Mapping[str, str] | None = None,
    cuda_graphs: bool = True,
    cuda_api: CudaApi = "auto",
    wait: Wait = "auto",
    plugins: Sequence[str | os.PathLike[str]] = (),
    allow_host_code: bool = False,
) -> EmbeddingSession:
    """Open a model for embedding; its kind decides the runtime.

    Args:
        path: `.safetensors`, `.pt` (PyTorch), `.onnx` (ONNX Runtime), `.engine` (TensorRT), or the
            folder of a bundle.
        device: `cpu`, `cuda` or `cuda:N`; None is `cuda` for engines, `cpu` for the others.
        threads: threads of one inference on the CPU; None leaves it to the runtime.
        provider: ONNX Runtime's execution provider, such as `TensorrtExecutionProvider` or
            `tensorrt`; None takes the one that the device implies.
        max_batch: images that go through the network at once; more are chunked.
        provider_options: settings of that provider, by ONNX Runtime's names.
        cuda_graphs: for engines: capture runs as CUDA graphs, one a shape.
        cuda_api: for engines: `cuda-python`, `pycuda`, or `auto`.
        wait: for engines: what the thread does meanwhile, `spin`, `block` or `auto`.
        plugins: for engines: shared objects that they need.
        allow_host_code: for engines: load version-compatible ones, which carry host code.

    Raises:
        UsageError: the kind or an option is unknown.
        ModelFileError, CheckpointError: the file is missing or damaged.
        MissingCapabilityError: this machine lacks the runtime, the device or the provider.
    """
    options = SessionOptions(
        device=device or implied_device([path]),
        threads=threads,
        provider=provider,
        max_batch=max_batch,
        provider_options=provider_options or {},
        cuda_graphs=cuda_graphs,
        cuda_api=cuda_api,
        wait=wait,
        plugins=tuple(Path(plugin) for plugin in plugins),
        allow_host_code=allow_host_code,
    )
    return open_with(path, options)


def open_with(path: str | os.PathLike[str], options: SessionOptions) -> EmbeddingSession:
    """Open a model file with options that are put together already; see `open_session`."""
    session: EmbeddingSession = require_kind(path).open(Path(path), options)
    return session


def implied_device(models: Sequence[str | os.PathLike[str]]) -> str:
    """Return where models run if nothing else is said: `cuda` if one is an engine, else `cpu`."""
    kinds = [kind_of(model) for model in models]
    return "cuda" if any(kind is not None and kind.device == "cuda" for kind in kinds) else "cpu"

"""Run a model with PyTorch, ONNX Runtime, OpenVINO or TensorRT, through one interface.

Importing this package needs only numpy; a session imports its runtime when you open it.

    with open_session("model.onnx") as session:
        embeddings = session.embed(images)

The names in `__all__` are stable: their documented parameters, attributes and errors, and the
documented methods of the sessions that they return. A minor version may add names, and parameters
with defaults, but removes none. Everything else in this package may change at any time.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from gsp_deploy.artifact.kind import kind_of, require_kind
from gsp_deploy.base.choices import CudaApi, RuntimeWord, Wait
from gsp_deploy.precision import FloatPrecisionWord
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
    ep_libraries: Sequence[str | os.PathLike[str]] = (),
    session_config: Mapping[str, str] | None = None,
    cuda_graphs: bool = True,
    cuda_api: CudaApi = "auto",
    wait: Wait = "auto",
    plugins: Sequence[str | os.PathLike[str]] = (),
    allow_host_code: bool = False,
    runtime: RuntimeWord | None = None,
    precision: FloatPrecisionWord | None = None,
    requests: int = 1,
    model_cache: str | os.PathLike[str] | None = None,
) -> EmbeddingSession:
    """Open a model for embedding; the kind of file decides the runtime, if you name none.

    Args:
        path: `.safetensors`, `.pt` (PyTorch), `.onnx` (ONNX Runtime or OpenVINO), `.engine`
            (TensorRT), or the folder of a bundle.
        device: `cpu`, `cuda` or `cuda:N`; None is `cuda` for engines, `cpu` for the others.
        threads: threads of one inference on the CPU; None leaves it to the runtime.
        provider: ONNX Runtime's execution provider, such as `TensorrtExecutionProvider` or
            `tensorrt`; None takes the one for the device.
        max_batch: most images that run at once; more are split into chunks.
        provider_options: settings of that provider, by ONNX Runtime's names.
        ep_libraries: libraries with more execution providers for ONNX Runtime 1.22 or later. Those
            in installed packages `onnxruntime-ep-...` are found without it.
        session_config: entries of ONNX Runtime's session configuration, by name.
        cuda_graphs: for engines: capture runs as CUDA graphs, one per shape.
        cuda_api: for engines: `cuda-python`, `pycuda`, or `auto`.
        wait: for engines: how the thread waits for the GPU, `spin`, `block` or `auto`.
        plugins: for engines: shared objects that they need.
        allow_host_code: for engines: load version-compatible ones, which carry host code.
        runtime: for ONNX files: `onnxruntime` (the default) or `openvino`.
        precision: for OpenVINO: `fp32`, `bf16` or `fp16`; None takes the file's own precision if
            the processor computes in it, else `fp32`.
        requests: for OpenVINO: inferences in flight at once, which share the threads; 0 leaves the
            number to OpenVINO, for the most images per second.
        model_cache: for OpenVINO: a folder for compiled models; None keeps none.

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
        ep_libraries=tuple(Path(library) for library in ep_libraries),
        session_config=session_config or {},
        cuda_graphs=cuda_graphs,
        cuda_api=cuda_api,
        wait=wait,
        plugins=tuple(Path(plugin) for plugin in plugins),
        allow_host_code=allow_host_code,
        runtime=runtime,
        precision=precision,
        requests=requests,
        model_cache=None if model_cache is None else Path(model_cache),
    )
    return open_with(path, options)


def open_with(path: str | os.PathLike[str], options: SessionOptions) -> EmbeddingSession:
    """Open a model file with a `SessionOptions`; see `open_session`."""
    session: EmbeddingSession = require_kind(path).open(Path(path), options)
    return session


def implied_device(models: Sequence[str | os.PathLike[str]]) -> str:
    """Return the default device of these models: `cuda` if one is an engine, else `cpu`."""
    kinds = [kind_of(model) for model in models]
    return "cuda" if any(kind is not None and kind.device == "cuda" for kind in kinds) else "cpu"

"""An exported model run by ONNX Runtime, on any of its execution providers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from gsp_deploy.errors import MissingCapabilityError, ModelFileError, UsageError
from gsp_deploy.manifest import METADATA_KEY, ExportManifest, TensorSpec, read_sidecar
from gsp_deploy.runtime.session import EmbeddingSession, SessionInfo, SessionOptions

_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
_ELEMENT_TYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(bfloat16)": "bfloat16",
    "tensor(uint8)": "uint8",
}
_QUIET = 3  # errors only


class OnnxSession(EmbeddingSession):
    """Embeds with ONNX Runtime."""

    def __init__(self, path: Path, options: SessionOptions) -> None:
        manifest = _manifest_beside(path)
        _check_external_data(path, manifest)
        self._graph = OnnxGraph(path, options)
        super().__init__(_describe(path, self._graph, manifest), options)
        batch = self._graph.input.shape[0]
        if isinstance(batch, int):
            self._max_batch = batch

    def infer(self, inputs: np.ndarray, outputs: Sequence[str]) -> Mapping[str, np.ndarray]:
        """Run one batch, padded with zeros to a fixed batch size where the graph has one."""
        count, batch = len(inputs), self._graph.input.shape[0]
        if isinstance(batch, int) and count < batch:
            padding = np.zeros((batch - count, *inputs.shape[1:]), inputs.dtype)
            inputs = np.concatenate([inputs, padding])
        found = self._graph.run(inputs, outputs)
        return {name: array[:count].astype(np.float32) for name, array in found.items()}

    def close(self) -> None:
        """Release ONNX Runtime's session."""
        self._graph.close()


class OnnxGraph:
    """One graph in ONNX Runtime with a single input; fills in the details that sessions share.

    Attributes:
        input: name, element type and shape of the input.
        outputs: names of the outputs.
        provider: the execution provider in use.
        emulates_bfloat16: the graph was widened because this provider has no bfloat16 kernels.
    """

    def __init__(self, path: Path, options: SessionOptions | None = None) -> None:
        options = options or SessionOptions()
        self.provider = _provider(options)
        self._session, self.emulates_bfloat16 = _create(path, self.provider, options)
        sources = self._session.get_inputs()
        if len(sources) != 1 or sources[0].type not in _ELEMENT_TYPES:
            raise ModelFileError(
                f"{path}: expected one input of images, found "
                f"{', '.join(f'{source.name} {source.type}' for source in sources)}"
            )
        source = sources[0]
        shape = tuple(size if size is not None else "?" for size in source.shape)
        self.input = TensorSpec(source.name, _ELEMENT_TYPES[source.type], shape)
        self.outputs = tuple(output.name for output in self._session.get_outputs())

    def run(self, inputs: np.ndarray, outputs: Sequence[str]) -> dict[str, np.ndarray]:
        """Run one batch and return the named outputs as they come."""
        if self.input.dtype == "float16":
            inputs = inputs.astype(np.float16)
        found = self._session.run(list(outputs), {self.input.name: inputs})
        return dict(zip(outputs, found, strict=True))

    def output_shape(self, name: str) -> Sequence[Any]:
        """Return the shape of an output, open sizes as words."""
        return next(o.shape for o in self._session.get_outputs() if o.name == name)

    def metadata(self) -> Mapping[str, str]:
        """Return the file's metadata properties."""
        found: Mapping[str, str] = self._session.get_modelmeta().custom_metadata_map
        return found

    def close(self) -> None:
        """Release ONNX Runtime's session."""
        self._session = None

    def __enter__(self) -> OnnxGraph:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _provider(options: SessionOptions) -> str:
    """Return the provider's full name, having made sure that this ONNX Runtime has it."""
    asked = options.provider or options.device.partition(":")[0]
    available = onnxruntime.get_available_providers()
    full = {name.removesuffix("ExecutionProvider").lower(): name for name in available}
    provider = (
        asked if asked in available else full.get(asked.lower(), _PROVIDERS.get(asked, asked))
    )
    if provider not in available:
        hint = "; pip install onnxruntime-gpu" if provider == _PROVIDERS["cuda"] else ""
        raise MissingCapabilityError(
            f"this ONNX Runtime has no {provider}, only {', '.join(available)}{hint}"
        )
    return provider


def _create(path: Path, provider: str, options: SessionOptions) -> tuple[Any, bool]:
    """Return the session, and whether its bfloat16 had to be widened."""
    if not path.is_file():
        raise ModelFileError(f"{path}: no such model file")
    try:
        return _open(str(path), provider, options), False
    except Exception as error:  # ONNX Runtime raises a dozen types of its own
        if provider == _PROVIDERS["cpu"] and "NOT_IMPLEMENTED" in str(error):
            from gsp_deploy.runtime.bfloat16 import widen_bfloat16  # needs the onnx package

            widened = widen_bfloat16(path)
            if widened is not None:
                return _open(widened, provider, options), True
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelFileError(f"{path}: ONNX Runtime cannot load it: {reason}") from error


def _open(model: str | bytes, provider: str, options: SessionOptions) -> Any:
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = _QUIET
    if options.threads is not None:
        settings.intra_op_num_threads = options.threads
    session = onnxruntime.InferenceSession(
        model, settings, providers=[(provider, _provider_options(options))]
    )
    if session.get_providers()[0] != provider:
        raise MissingCapabilityError(
            f"ONNX Runtime could not start {provider} and fell back to "
            f"{session.get_providers()[0]}; is its driver or library missing?"
        )
    return session


def _provider_options(options: SessionOptions) -> dict[str, str]:
    index = options.device.partition(":")[2]
    return {"device_id": index} if index else {}


def _manifest_beside(path: Path) -> ExportManifest | None:
    return read_sidecar(path) if path.is_file() else None


def _check_external_data(path: Path, manifest: ExportManifest | None) -> None:
    if manifest is not None and manifest.external_data is not None:
        data = path.with_name(manifest.external_data)
        if not data.is_file():
            raise ModelFileError(
                f"{path} keeps its weights in {data.name}, which is missing beside it; "
                "move both files together"
            )


def _describe(path: Path, graph: OnnxGraph, beside: ExportManifest | None) -> SessionInfo:
    inside = graph.metadata().get(METADATA_KEY)
    manifest = beside if inside is None else ExportManifest.from_json(inside, path)
    if "embedding" not in graph.outputs:
        raise UsageError(
            f"{path}: expected an output called embedding, found {', '.join(graph.outputs)}"
        )
    emulated = ", bfloat16 emulated" if graph.emulates_bfloat16 else ""
    return SessionInfo(
        path=path,
        runtime=f"onnxruntime {onnxruntime.__version__}",
        device=f"{graph.provider.removesuffix('ExecutionProvider')}{emulated}",
        precision=manifest.precision if manifest else "unknown",
        input=graph.input,
        outputs=graph.outputs,
        embedding_dim=int(graph.output_shape("embedding")[1]),
        preprocessing=manifest.preprocessing if manifest else None,
        manifest=manifest,
    )

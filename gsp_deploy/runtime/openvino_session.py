"""Run an exported model with OpenVINO on the CPU."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from queue import Empty, LifoQueue

import numpy as np
import openvino

from gsp_deploy.artifact import METADATA_KEY, ExportManifest, TensorSpec, read_sidecar
from gsp_deploy.artifact.identity import weight_files
from gsp_deploy.artifact.onnx_manifest import check_runnable
from gsp_deploy.errors import MissingCapabilityError, ModelFileError, UsageError
from gsp_deploy.precision import PRECISIONS, UNKNOWN, lowered_to
from gsp_deploy.runtime.openvino_model import (
    compile_model,
    name_of,
    pinned_precision,
    read_model,
)
from gsp_deploy.runtime.openvino_requests import ELEMENT_TYPES, Request, make_requests
from gsp_deploy.runtime.session import (
    EmbeddingSession,
    SessionInfo,
    SessionOptions,
    without_embedding,
)


class OpenVinoSession(EmbeddingSession):
    """Embeds with OpenVINO on the CPU, several batches at once if `requests` says so."""

    def __init__(self, path: Path, options: SessionOptions) -> None:
        _check_options(path, options)
        if not path.is_file():
            raise ModelFileError(f"{path}: no such model file")
        beside = read_sidecar(path)
        weight_files(path)  # before OpenVINO opens what the graph names
        check_runnable(path, beside, "OpenVINO")
        model = read_model(path)
        manifest = _manifest_inside(path, model) or beside
        of_file = manifest.precision if manifest else UNKNOWN
        precision = pinned_precision(path, options.precision, of_file)
        info = _describe(path, model, manifest, precision)
        super().__init__(info, options)
        compiled = compile_model(path, model, precision, options)
        self._requests = make_requests(path, compiled, info)
        self._idle: LifoQueue[Request] = LifoQueue()
        for request in self._requests:
            self._idle.put(request)
        self._batch = info.input.shape[0]
        if isinstance(self._batch, int):
            self._max_batch = self._batch

    def infer(self, inputs: np.ndarray, outputs: Sequence[str]) -> Mapping[str, np.ndarray]:
        """Run one batch, padded with zeros if the graph has a fixed batch size.

        An empty batch runs as one image of zeros, because only a run gives the outputs' shapes.
        """
        (found,) = self._run_all(iter([inputs]), outputs)
        return found

    def close(self) -> None:
        """Release the compiled model."""
        if not self.closed:
            self.closed = True
            self._requests, self._idle = (), LifoQueue()

    def _infer_all(
        self, chunks: Iterator[np.ndarray], outputs: Sequence[str]
    ) -> list[Mapping[str, np.ndarray]]:
        if len(self._requests) == 1:
            return super()._infer_all(chunks, outputs)
        return self._run_all(chunks, outputs)

    def _run_all(
        self, chunks: Iterator[np.ndarray], outputs: Sequence[str]
    ) -> list[Mapping[str, np.ndarray]]:
        """Run batches on as many requests as are idle, and return their outputs in order."""
        found: list[Mapping[str, np.ndarray]] = []
        running: deque[Request] = deque()
        idle = self._idle
        try:
            for chunk in chunks:
                if (request := _taken(idle, wait=not running)) is None:
                    found.append(running[0].finish(outputs))
                    request = running.popleft()
                running.append(request)
                request.start(chunk)
            while running:
                found.append(running[0].finish(outputs))
                idle.put(running.popleft())
        finally:  # after an error: no request goes back while it runs
            for request in running:
                request.settle()
                idle.put(request)
        return found

    def _chunks(self, inputs: np.ndarray) -> Iterator[np.ndarray]:
        """Yield batches, so many that every request has one."""
        share = -(-len(inputs) // len(self._requests))
        size = max(1, min(self._max_batch, share))
        for start in range(0, max(len(inputs), 1), size):
            yield inputs[start : start + size]


def _taken(idle: LifoQueue[Request], wait: bool) -> Request | None:
    """Return an idle request, or None if there is none and the caller does not wait.

    A thread with a batch in flight must not wait: two such threads would wait for each other.
    """
    try:
        return idle.get(block=wait)
    except Empty:
        return None


def _check_options(path: Path, options: SessionOptions) -> None:
    if options.provider is not None:
        raise UsageError(
            f"{path}: OpenVINO runs it itself and takes no provider; leave out the runtime to use "
            "a provider of ONNX Runtime"
        )
    if options.device != "cpu":
        raise MissingCapabilityError(
            f"{path}: gsp-deploy runs OpenVINO on the CPU, and the device is {options.device}; "
            "for CUDA leave out the runtime, or build an engine"
        )


def _manifest_inside(path: Path, model: openvino.Model) -> ExportManifest | None:
    place = ["framework", METADATA_KEY]
    if not model.has_rt_info(place):
        return None
    return ExportManifest.from_json(model.get_rt_info(place).astype(str), path)


def _describe(
    path: Path, model: openvino.Model, manifest: ExportManifest | None, precision: str
) -> SessionInfo:
    of_file = manifest.precision if manifest else UNKNOWN
    pinned = PRECISIONS[precision].element.name
    lowered = of_file in PRECISIONS and PRECISIONS[of_file].lowered
    quantised = of_file in PRECISIONS and PRECISIONS[of_file].quantised
    return SessionInfo(
        path=path,
        runtime=f"openvino {openvino.__version__.partition('-')[0]}",
        device=f"CPU, computes in {'int8 and ' if quantised else ''}{pinned}",
        precision=lowered_to(of_file, precision),
        input=_input_of(path, model, manifest),
        outputs=tuple(name_of(end) for end in model.outputs),
        embedding_dim=_embedding_dim(path, model),
        preprocessing=manifest.preprocessing if manifest else None,
        manifest=manifest,
        config=manifest.model if manifest else None,
        emulated=lowered and precision == "fp32",
    )


def _input_of(path: Path, model: openvino.Model, manifest: ExportManifest | None) -> TensorSpec:
    (end,) = model.inputs
    element = end.get_element_type().get_type_name()
    if element not in ELEMENT_TYPES or end.partial_shape.rank.is_dynamic:
        raise ModelFileError(
            f"{path}: expected one input of images, found {name_of(end)} of {element}, "
            f"{end.partial_shape}"
        )
    sizes = list(end.partial_shape)
    words: Sequence[int | str] = ["batch", *["?"] * (len(sizes) - 1)]
    if manifest is not None and manifest.inputs and len(manifest.inputs[0].shape) == len(sizes):
        words = manifest.inputs[0].shape
    shape = tuple(
        str(word) if size.is_dynamic else size.get_length()
        for word, size in zip(words, sizes, strict=True)
    )
    return TensorSpec(name_of(end), ELEMENT_TYPES[element], shape)


def _embedding_dim(path: Path, model: openvino.Model) -> int:
    for end in model.outputs:
        shape = end.partial_shape
        if name_of(end) != "embedding" or shape.rank.is_dynamic or len(shape) != 2:
            continue
        if shape[1].is_static:
            return int(shape[1].get_length())
    outputs = (f"{name_of(end)} {end.partial_shape}" for end in model.outputs)
    raise without_embedding(path, outputs)

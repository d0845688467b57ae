"""Inference requests of a compiled model: each runs one batch at a time, without copying it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import openvino

from gsp_deploy.base.elements import END_ELEMENTS
from gsp_deploy.base.encoding import decode, encode, storage_of
from gsp_deploy.errors import ModelFileError
from gsp_deploy.runtime.openvino_model import blaming
from gsp_deploy.runtime.session import SessionInfo

# OpenVINO's names of the element types that a model may take and return.
ELEMENT_TYPES = {"f32": "float32", "f16": "float16", "bf16": "bfloat16", "u8": "uint8"}
_TYPES = {name: getattr(openvino.Type, short) for short, name in ELEMENT_TYPES.items()}
assert {row.name for row in END_ELEMENTS} == set(ELEMENT_TYPES.values())


class Request:
    """One inference at a time, on inputs that stay where they are."""

    def __init__(
        self, path: Path, request: openvino.InferRequest, info: SessionInfo, places: dict[str, int]
    ) -> None:
        self._path = path
        self._request = request
        self._dtype = info.input.dtype
        batch = info.input.shape[0]
        self._least = batch if isinstance(batch, int) else 1
        self._places = places
        self._count = 0
        self._inputs: np.ndarray | None = None  # OpenVINO reads it while the request runs

    def start(self, inputs: np.ndarray) -> None:
        """Start to run a batch, padded with zeros to the least that the graph takes.

        Raises:
            UsageError: an input is beyond the range of the graph's float16.
            ModelFileError: OpenVINO refuses the batch.
        """
        self._count = len(inputs)
        if self._count < self._least:
            padding = np.zeros((self._least - self._count, *inputs.shape[1:]), inputs.dtype)
            inputs = np.concatenate([inputs, padding])
        stored = encode(inputs, self._dtype)
        self._inputs = np.require(stored, requirements=("C", "A", "W"))
        with blaming(self._path, "run"):
            self._request.set_input_tensor(_shared(self._inputs, self._dtype))
            self._request.start_async()

    def finish(self, outputs: Sequence[str]) -> dict[str, np.ndarray]:
        """Wait for the batch that was started, and return its outputs in float32.

        Raises:
            ModelFileError: OpenVINO cannot run the graph on it.
        """
        with blaming(self._path, "run"):
            self._request.wait()
            found = {name: self._output(name) for name in outputs}
        self._inputs = None
        return found

    def settle(self) -> None:
        """Wait until nothing runs; errors are no longer of interest."""
        try:
            self._request.wait()
        except Exception:  # OpenVINO raises several types
            return

    def _output(self, name: str) -> np.ndarray:
        tensor = self._request.get_output_tensor(self._places[name])
        dtype = ELEMENT_TYPES.get(tensor.element_type.get_type_name())
        if dtype is None:
            raise ModelFileError(
                f"{self._path}: expected the output {name} in float32, float16 or bfloat16, got "
                f"{tensor.element_type.get_type_name()}"
            )
        return decode(tensor.data[: self._count].view(storage_of(dtype)), dtype)


def make_requests(
    path: Path, compiled: openvino.CompiledModel, info: SessionInfo
) -> tuple[Request, ...]:
    """Return as many requests as the compiled model runs at once."""
    count = compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")
    places = {name: place for place, name in enumerate(info.outputs)}
    return tuple(Request(path, compiled.create_infer_request(), info, places) for _ in range(count))


def _shared(stored: np.ndarray, dtype: str) -> openvino.Tensor:
    """Return a tensor on the array's own memory."""
    if dtype == "bfloat16":  # numpy holds its bits as uint16
        return openvino.Tensor(stored, openvino.Shape(stored.shape), _TYPES[dtype])
    return openvino.Tensor(stored, shared_memory=True)

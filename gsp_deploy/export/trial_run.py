"""Run a graph in memory, before it is written, to certify or to score it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime

from gsp_deploy.artifact import TensorSpec
from gsp_deploy.artifact.half_precision import widen
from gsp_deploy.base.elements import BY_ONNXRUNTIME, ELEMENTS
from gsp_deploy.base.encoding import encode
from gsp_deploy.base.environment import keep_int8_exact
from gsp_deploy.errors import GspDeployError, reason_of

_BFLOAT16 = ELEMENTS["bfloat16"]
_QUIET = 3  # errors only


class TrialGraph:
    """A graph with one input, open in ONNX Runtime on the CPU.

    ONNX Runtime has no bfloat16 kernels for the CPU. A bfloat16 graph runs in float32 with every
    result rounded, and takes and returns float32.

    Attributes:
        input: name, element type and shape of the input; open sizes are words.
    """

    def __init__(self, model: Path | bytes) -> None:
        settings = onnxruntime.SessionOptions()
        settings.log_severity_level = _QUIET
        keep_int8_exact(settings)
        self._session: Any = _blamed(
            lambda: onnxruntime.InferenceSession(
                model if isinstance(model, bytes) else str(model),
                settings,
                providers=["CPUExecutionProvider"],
            ),
            "load",
        )
        (source,) = self._session.get_inputs()
        self.input = TensorSpec(source.name, BY_ONNXRUNTIME[source.type].name, source.shape)

    def run(self, inputs: np.ndarray, outputs: Sequence[str]) -> dict[str, np.ndarray]:
        """Run one batch and return the named outputs.

        Raises:
            UsageError: an input exceeds the range of float16, and the graph takes float16.
            GspDeployError: ONNX Runtime cannot run the graph on it.
        """
        feed = {self.input.name: encode(inputs, self.input.dtype)}
        found = _blamed(lambda: self._session.run(list(outputs), feed), "run")
        return dict(zip(outputs, found, strict=True))


@contextmanager
def running(network: ir.Model) -> Iterator[TrialGraph]:
    """Yield the graph, open in ONNX Runtime on the CPU while the block runs.

    Raises:
        GspDeployError: ONNX Runtime cannot load it.
    """
    with tempfile.TemporaryDirectory(prefix="gsp-graph-") as folder:
        path = Path(folder) / "model.onnx"
        ir.save(network, path, external_data="model.onnx.data")
        widened = widen(path, _BFLOAT16) if _computes_in_bfloat16(network) else None
        yield TrialGraph(widened or path)


def _computes_in_bfloat16(network: ir.Model) -> bool:
    graph = network.graph
    results = (value for node in graph for value in node.outputs)
    values = (*graph.inputs, *graph.initializers.values(), *results)
    return any(value.dtype == ir.DataType[_BFLOAT16.onnx] for value in values)


def _blamed(action: Any, doing: str) -> Any:
    """Run the action; raise ONNX Runtime's many error types as one error of this package."""
    try:
        return action()
    except Exception as error:
        raise GspDeployError(
            f"ONNX Runtime cannot {doing} the graph that is being exported: {reason_of(error)}"
        ) from error

"""Run a model and return its inner values: an ONNX graph, or a PyTorch checkpoint."""

from __future__ import annotations

import tempfile
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

from gsp_deploy.artifact.half_precision import widen
from gsp_deploy.config import PreprocessingSpec
from gsp_deploy.images.normalisation import normalise
from gsp_deploy.parity.layers.graph import LARGEST_PROTO, NARROW
from gsp_deploy.precision import PRECISIONS
from gsp_deploy.runtime.onnx_graph import OnnxGraph
from gsp_deploy.runtime.providers import CPU
from gsp_deploy.runtime.session import SessionOptions


class Probe(ABC):
    """A model that returns its inner values by name; use it as a context manager.

    Attributes:
        names: the values that it may return.
        batch: the only batch size that it takes; None if it takes any.
    """

    names: frozenset[str]
    batch: int | None = None

    @abstractmethod
    def run(self, images: np.ndarray) -> Mapping[str, np.ndarray]:
        """Return the probed values, float32, for one batch of images."""

    @abstractmethod
    def close(self) -> None:
        """Release the model."""

    def __enter__(self) -> Probe:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class OnnxProbe(Probe):
    """A copy of a graph with inner values added to its outputs. The file itself is not touched.

    Narrow values come out as float32 through a Cast of their own.

    Args:
        model: the graph, typed by `load_graph`; it is changed.
        names: the values to expose.
        spec: how uint8 images become its input, if the graph does not do it.
        options: device and provider.
        emulate_fp16: on the CPU, round float16 as hardware does.
    """

    def __init__(
        self,
        model: onnx.ModelProto,
        names: Sequence[str],
        spec: PreprocessingSpec | None,
        options: SessionOptions,
        emulate_fp16: bool,
    ) -> None:
        self.names = frozenset(names)
        self._outputs = _expose(model, names)
        self._spec = spec
        with tempfile.TemporaryDirectory(prefix="gsp-layers-") as folder:
            path = Path(folder) / "probe.onnx"
            onnx.save(model, path, save_as_external_data=model.ByteSize() > LARGEST_PROTO)
            self._graph = OnnxGraph(path, options)
            wanted = emulate_fp16 and self._graph.provider == CPU
            if wanted and (rounding := widen(path, PRECISIONS["fp16"].element)) is not None:
                self._graph.close()
                path.write_bytes(rounding)
                self._graph = OnnxGraph(path, options)
        size = self._graph.input.shape[0]
        self.batch = size if isinstance(size, int) else None

    def run(self, images: np.ndarray) -> Mapping[str, np.ndarray]:
        """Return the exposed values for uint8 images, or for floating ones as they are."""
        if images.dtype == np.uint8 and self._graph.input.dtype != "uint8":
            assert self._spec is not None
            images = normalise(images, self._spec)
        found = self._graph.run(images, tuple(self._outputs.values()))
        return {name: found[output] for name, output in self._outputs.items()}

    def close(self) -> None:
        """Release ONNX Runtime's session."""
        self._graph.close()


def _expose(model: onnx.ModelProto, names: Sequence[str]) -> dict[str, str]:
    """Make values outputs of the graph; return the output's name for each.

    A quantised value is exposed after QuantizeLinear and DequantizeLinear, as the next node reads
    it. A quantiser drops a ReLU if its range clips as well, so the value before would not compare.
    """
    graph = model.graph
    read_as = _dequantised(graph)
    types = {v.name: v.type.tensor_type.elem_type for v in (*graph.value_info, *graph.output)}
    present = {output.name for output in graph.output}
    outputs = {}
    for name in names:
        output = read_as.get(name, name)
        if types[output] in (*NARROW, TensorProto.DOUBLE):
            output = f"{name}/probe"
            source = read_as.get(name, name)
            graph.node.append(helper.make_node("Cast", [source], [output], to=TensorProto.FLOAT))
        if output not in present:
            graph.output.append(helper.make_tensor_value_info(output, TensorProto.FLOAT, None))
        outputs[name] = output
    return outputs


def _dequantised(graph: onnx.GraphProto) -> dict[str, str]:
    """Return for each value that is quantised at once the name of its dequantised form."""
    quantised = {
        node.output[0]: node.input[0] for node in graph.node if node.op_type == "QuantizeLinear"
    }
    return {
        quantised[node.input[0]]: node.output[0]
        for node in graph.node
        if node.op_type == "DequantizeLinear" and node.input[0] in quantised
    }

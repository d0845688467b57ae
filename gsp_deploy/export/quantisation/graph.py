"""A graph pass that puts QuantizeLinear/DequantizeLinear pairs around chosen layers.

ONNX Runtime's static quantiser places the pairs; this pass then applies the rules it cannot.

1. Weights are int8, symmetric, one scale per output channel; activations int8, symmetric, one
   scale per tensor. Every zero point is 0, because TensorRT takes no other. Biases stay float32,
   as TensorRT refuses an int32 bias behind a DequantizeLinear.
2. A layer reads int8. It writes int8 if nothing needs its exact output, so that ONNX Runtime can
   run it as one integer kernel. The pair between a layer and its ReLU or clip has the
   activation's own range: it rounds nothing that the next pair would not round in the same way.
3. What computes in float32 (additions, poolings, layers left out, the pooling head) reads the
   float32 value if there is one.
4. Names of values stay; the graph's input and output stay float32.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import onnx
import onnx_ir as ir
from onnx_ir.passes import common as passes
from onnxruntime.quantization import QDQQuantizer, QuantType
from onnxruntime.quantization.calibrate import CalibrationMethod, TensorsData

from gsp_deploy.export.quantisation.layers import Layer
from gsp_deploy.export.quantisation.ranges import Ranges

_OPTIONS = {"ActivationSymmetric": True, "WeightSymmetric": True, "QuantizeBias": False}
_QUANTISE, _DEQUANTISE = "QuantizeLinear", "DequantizeLinear"


def quantise_graph(
    backbone: ir.Model, layers: Collection[Layer], left_out: Collection[Layer], ranges: Ranges
) -> ir.Model:
    """Return a copy of the backbone in which `layers` compute in int8.

    Args:
        backbone: a float32 graph with one output, the feature map.
        layers: what to quantise.
        left_out: the layers that stay in float32 and read float32.
        ranges: of each layer's input and output, as `calibrate_ranges` returns them.
    """
    if not layers:
        return backbone.clone()
    chosen = [node for layer in layers for node in layer.nodes]
    quantiser = QDQQuantizer(
        ir.serde.serialize_model(backbone),
        per_channel=True,
        reduce_range=False,
        weight_qType=QuantType.QInt8,
        activation_qType=QuantType.QInt8,
        tensors_range=_tensor_ranges(ranges),
        nodes_to_quantize=chosen,
        nodes_to_exclude=[],
        op_types_to_quantize=sorted(_operators(backbone, chosen)),
        extra_options=dict(_OPTIONS),
    )
    proto: onnx.ModelProto = quantiser.quantize_model()
    del proto.metadata_props[:]  # the quantiser's own mark
    quantised = ir.serde.deserialize_model(proto)
    output = backbone.graph.outputs[0].name
    _settle(quantised.graph, {x.node for x in layers}, {x.node for x in left_out})
    _restore_output(quantised.graph, output)
    for clean in (passes.RemoveUnusedNodesPass(), passes.TopologicalSortPass()):
        clean(quantised)
    passes.ShapeInferencePass()(quantised)
    return quantised


def _tensor_ranges(ranges: Ranges) -> TensorsData:
    """Return new ranges in the quantiser's own type; the quantiser modifies its arguments."""
    pairs = {
        name: (np.array(low, np.float32), np.array(high, np.float32))
        for name, (low, high) in ranges.items()
    }
    return TensorsData(CalibrationMethod.MinMax, pairs)


def _operators(backbone: ir.Model, names: Collection[str]) -> set[str]:
    wanted = set(names)
    return {node.op_type for node in backbone.graph if node.name in wanted}


def _settle(graph: ir.Graph, int8: set[str], left_out: set[str]) -> None:
    """Decide which nodes read each quantised activation as int8 (rules 2 and 3)."""
    for dequantise in list(graph):
        if dequantise.op_type != _DEQUANTISE:
            continue
        source = dequantise.inputs[0]
        quantise = source.producer() if source is not None else None
        if quantise is None:
            continue  # a weight
        exact, rounded = quantise.inputs[0], dequantise.outputs[0]
        assert exact is not None
        others = [use for use in rounded.uses() if use.node.name not in int8]
        needs_exact = rounded.is_graph_output() or any(u.node.name in left_out for u in others)
        is_read_as_int8 = len(others) < len(rounded.uses())
        producer = exact.producer()
        written_as_int8 = producer is not None and producer.name in int8
        if written_as_int8 and not is_read_as_int8 and not needs_exact:
            continue
        for use in others:
            use.node.replace_input_with(use.idx, exact)
        for index, output in enumerate(graph.outputs):
            if output is rounded:
                graph.outputs[index] = exact


def _restore_output(graph: ir.Graph, name: str | None) -> None:
    """Give the feature map its name back; the quantiser had given it to the rounded value."""
    output = graph.outputs[0]
    if output.name == name:
        return
    for node in graph:
        for value in node.outputs:
            if value.name == name:
                value.name = f"{name}_{_DEQUANTISE}_Output"
    output.name = name

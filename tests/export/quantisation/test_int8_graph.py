"""The int8 graph of a whole network: what TensorRT takes, and what ONNX Runtime computes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
import torch

from gsp_deploy import EmbeddingModel
from gsp_deploy.artifact import read_sidecar
from gsp_deploy.export.assembly import Draft
from gsp_deploy.export.quantisation import ranges
from gsp_deploy.export.quantisation.graph import quantise_graph
from gsp_deploy.export.quantisation.layers import find_layers
from gsp_deploy.images.normalisation import normalise

from .gratings import SPEC, calibration, gratings, small_model


def producers(graph: onnx.GraphProto) -> dict[str, onnx.NodeProto]:
    return {name: node for node in graph.node for name in node.output}


def constants(graph: onnx.GraphProto) -> dict[str, np.ndarray]:
    return {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}


def test_every_quantised_layer_obeys_tensorrt_and_no_other_node_is_touched(
    int8_export: Path,
) -> None:
    """Symmetric int8, weights a scale a channel, activations one; biases and the rest float32."""
    model = onnx.load(int8_export / "int8.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert [entry.domain for entry in model.opset_import] == [""]
    graph, made_by, stored = model.graph, producers(model.graph), constants(model.graph)
    manifest = read_sidecar(int8_export / "int8.onnx")
    assert manifest is not None
    record = manifest.quantisation
    assert record is not None
    left_out = {layer.node for layer in record.float_layers}
    for node in graph.node:
        if node.op_type == "QuantizeLinear":
            scale, zero = stored[node.input[1]], stored[node.input[2]]
            assert scale.shape == ()
            assert scale > 0
        elif node.op_type == "DequantizeLinear":
            zero = stored[node.input[2]]
        else:
            continue
        assert zero.dtype == np.int8
        assert not zero.any()
    layers = [n for n in graph.node if n.op_type == "Conv" and not n.name.startswith("gsp/")]
    assert len(layers) == record.layers
    for layer in layers:
        kinds = [made_by[name].op_type if name in made_by else "stored" for name in layer.input]
        if layer.name in left_out:
            assert "DequantizeLinear" not in kinds
            assert stored[layer.input[1]].dtype == np.float32
        else:
            assert kinds == ["DequantizeLinear", "DequantizeLinear", "stored"]
            weight = stored[made_by[layer.input[1]].input[0]]
            assert weight.dtype == np.int8
            assert stored[made_by[layer.input[1]].input[1]].shape == (len(weight),)
        assert stored[layer.input[2]].dtype == np.float32


def test_the_head_has_no_quantised_neighbour(int8_export: Path) -> None:
    graph = onnx.load(int8_export / "int8.onnx").graph
    made_by = producers(graph)
    pairs = {"QuantizeLinear", "DequantizeLinear"}
    head = [node for node in graph.node if node.name.startswith("gsp/")]
    assert any(node.name == "gsp/embed" for node in head)
    for node in head:
        assert node.op_type not in pairs
        assert not [n for n in node.input if n in made_by and made_by[n].op_type in pairs]
    written = {name for node in head for name in node.output}
    assert not [n for n in graph.node if n.op_type in pairs and written & set(n.input)]


def test_preprocessing_stays_in_float(int8_export: Path) -> None:
    graph = onnx.load(int8_export / "int8.onnx").graph
    made_by = producers(graph)
    for node in graph.node:
        if node.name.startswith("preprocessing/"):
            inner = [made_by[name].op_type for name in node.input if name in made_by]
            assert "DequantizeLinear" not in inner


def test_onnx_runtime_runs_every_quantised_layer_on_integers(
    healthy: Draft, gratings_folder: Path, tmp_path: Path
) -> None:
    layers = find_layers(healthy.backbone)
    found = ranges.calibrate_ranges(healthy.backbone, calibration(), "min-max")
    source, optimised = tmp_path / "q.onnx", tmp_path / "optimised.onnx"
    ir.save(quantise_graph(healthy.backbone, layers, (), found), source)
    settings = onnxruntime.SessionOptions()
    settings.optimized_model_filepath = str(optimised)
    settings.log_severity_level = 3
    onnxruntime.InferenceSession(str(source), settings, providers=["CPUExecutionProvider"])
    operators = [node.op_type for node in onnx.load(optimised).graph.node]
    assert operators.count("QLinearConv") == len(layers) == 6
    assert "Conv" not in operators


@pytest.mark.parametrize("which", [0, 2, 5])
def test_one_quantised_layer_computes_what_fake_quantisation_in_torch_does(
    which: int, healthy: Draft, tmp_path: Path
) -> None:
    """Without ONNX Runtime's own fusions, which may round the last bit otherwise."""
    layers = find_layers(healthy.backbone)
    rest = [layer for layer in layers if layer is not layers[which]]
    found = ranges.calibrate_ranges(healthy.backbone, calibration(), "min-max")
    path = tmp_path / "one.onnx"
    ir.save(quantise_graph(healthy.backbone, [layers[which]], rest, found), path)
    settings = onnxruntime.SessionOptions()
    settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])
    images = normalise(gratings(), SPEC)
    (features,) = session.run(None, {"images": images})
    expected = with_fake_quantised_unit(small_model(sabotaged=False), which, images)
    scale = np.abs(expected).max() / 127
    # a value that float rounding puts on the other side of .5 moves by a whole step: rare
    assert np.mean(np.abs(features - expected) > 0.02 * scale) < 2e-3
    assert np.abs(features - expected).max() < 3 * scale


def with_fake_quantised_unit(model: EmbeddingModel, which: int, images: np.ndarray) -> np.ndarray:
    """Run the network in torch with input, weight and output of one convolution rounded."""
    unit = model.backbone.units[which]
    fused = torch.nn.utils.fusion.fuse_conv_bn_eval(unit.conv, unit.norm)

    def rounded(values: torch.Tensor, largest: torch.Tensor) -> torch.Tensor:
        return torch.fake_quantize_per_tensor_affine(values, float(largest) / 127, 0, -127, 127)

    weight = fused.weight.detach()
    scales = weight.abs().amax(dim=(1, 2, 3)) / 127
    zeros = torch.zeros(len(weight), dtype=torch.int32)
    weight = torch.fake_quantize_per_channel_affine(weight, scales, zeros, 0, -127, 127)

    def forward(x: torch.Tensor) -> torch.Tensor:
        out = torch.nn.functional.conv2d(
            rounded(x, x.abs().max()), weight, fused.bias, fused.stride, fused.padding
        )
        exact = fused(x)
        # where a ReLU follows directly, the output has the ReLU's range
        largest = exact.abs().max() if unit.skips else exact.clamp(min=0).max()
        out = rounded(out, largest)
        return torch.relu(out + x if unit.skips else out)

    with torch.no_grad():
        x = torch.from_numpy(images)
        for index, other in enumerate(model.backbone.units):
            x = forward(x) if index == which else other(x)
    return x.numpy()

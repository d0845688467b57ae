"""Softmax and normalisations stay in float32 inside a half-precision graph, however written."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from torch import Tensor, nn

from gsp_deploy.export.lowering import as_type, lower_precision
from gsp_deploy.export.statistics import statistics_of
from gsp_deploy.export.trial_run import running

HALF = ir.DataType.FLOAT16


class Root(nn.Module):
    """Divides by the root mean square, written out as many networks do."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6)


class Deviation(nn.Module):
    """Divides by the standard deviation over the channels, written out."""

    def forward(self, x: Tensor) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        return centred / torch.sqrt(centred.pow(2).mean(-1, keepdim=True) + 1e-5)


class Variance(nn.Module):
    """Calls `torch.var`."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.var(-1, keepdim=True) + 1e-6)


class Length(nn.Module):
    """Divides by the L2 norm."""

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.normalize(x, dim=-1)


NORMALISATIONS = {
    "root": Root(),
    "deviation": Deviation(),
    "variance": Variance(),
    "length": Length(),
    "layer": nn.LayerNorm(64),
    "softmax": nn.Softmax(-1),
    "group": nn.GroupNorm(4, 12),
}


def exported(network: nn.Module) -> ir.Model:
    program = torch.onnx.export(
        nn.Sequential(network, nn.ReLU()).eval(),
        (torch.zeros(2, 12, 64),),
        dynamo=True,
        opset_version=18,
        input_names=["x"],
        verbose=False,
    )
    return program.model


def run(model: ir.Model, x: np.ndarray) -> np.ndarray:
    name = str(model.graph.outputs[0].name)
    with running(model) as graph:
        return graph.run(x, (name,))[name]


@pytest.mark.parametrize("name", NORMALISATIONS)
def test_values_whose_squares_overflow_are_normalised(name) -> None:
    x = np.random.default_rng(0).standard_normal((2, 12, 64)).astype(np.float32) * 900
    model = exported(NORMALISATIONS[name])
    wanted = run(model, x)
    kept = lower_precision(model, "fp16")
    assert kept
    proto = ir.to_proto(model)
    onnx.checker.check_model(proto, full_check=True)
    found = onnx.reference.ReferenceEvaluator(proto).run(None, {"x": x})[0]  # rounds every result
    np.testing.assert_allclose(found, wanted, atol=4e-3 * np.abs(wanted).max())
    relu = next(node for node in model.graph if node.op_type == "Relu")
    assert relu.outputs[0].dtype == HALF


class Squeeze(nn.Module):
    """Averages and scales, as squeeze-and-excitation does, and takes a root of something else."""

    def forward(self, x: Tensor) -> Tensor:
        return x * x.mean(-1, keepdim=True) + torch.sqrt(x.abs())


def test_an_average_that_normalises_nothing_is_lowered() -> None:
    assert statistics_of(exported(Squeeze()).graph, HALF) == {}


class Masked(nn.Module):
    """Has a number that float16 makes infinite, and one that it makes zero."""

    def forward(self, x: Tensor) -> Tensor:
        return (x - 1e9).clamp(min=-1.0) / (x.abs() + 2e-8)


def test_scalars_that_the_type_cannot_hold_keep_their_operators() -> None:
    graph = exported(Masked()).graph
    assert {node.op_type for node in statistics_of(graph, HALF)} == {"Sub", "Add"}
    assert {node.op_type for node in statistics_of(graph, ir.DataType.BFLOAT16)} == set()


def test_infinite_weights_are_as_infinite_in_half_precision() -> None:
    assert np.isinf(as_type(np.array([-np.inf, 1], np.float32), HALF, "mask")).sum() == 1

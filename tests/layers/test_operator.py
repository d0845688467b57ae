"""The layer as one operator: compiled, exported, batched, under autocast, and wrapped."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from gsp_deploy import GeneralizedSumPooling, GSPConfig
from gsp_deploy.artifact.tensors import OUTPUTS
from gsp_deploy.layers import PoolingOutput
from gsp_deploy.layers.operator import generalized_sum_pooling
from gsp_deploy.layers.stages import PoolingSettings, gradients_of, pool

SETTINGS = {
    "gap": {},
    "gmp without bias": {"pooling": "gmp", "bias": False},
    "gem with residual": {"pooling": "gem", "max_residual": True},
    "everything kept": {"transport_ratio": 1.0},
}
WRAPPED = Path(__file__).with_name("wrapped_layer.py")


def layer_of(name: str) -> GeneralizedSumPooling:
    torch.manual_seed(0)
    return GeneralizedSumPooling(GSPConfig(6, 5, 4, **SETTINGS[name]))


def loss(out: PoolingOutput) -> Tensor:
    return sum((value * torch.rand(value.shape[-1])).sum() for value in out[:3])


def gradients(call: object, layer: nn.Module, features: Tensor) -> tuple[Tensor, ...]:
    torch.manual_seed(1)
    inputs = features, *layer.parameters()
    return torch.autograd.grad(loss(call(features)), inputs)


@pytest.fixture
def fresh_compiler() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.mark.parametrize("name", ["gap", "gem with residual"])
def test_the_operator_keeps_pytorchs_rules(name: str) -> None:
    layer = layer_of(name)
    features = torch.rand(2, 6, 3, 4, requires_grad=True)
    parameters = layer.embed.weight, layer.embed.bias, layer.prototypes, layer.power
    settings = PoolingSettings.of(layer.config, layer.problem)
    torch.library.opcheck(generalized_sum_pooling, (features, *parameters, *settings))


@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.parametrize("name", SETTINGS)
def test_compiles_forward_and_backward_without_a_graph_break(name: str) -> None:
    layer = layer_of(name)
    features = torch.rand(2, 6, 3, 4, requires_grad=True)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    for found, expected in zip(compiled(features), layer(features), strict=True):
        torch.testing.assert_close(found, expected)
    found = gradients(compiled, layer, features)
    torch.testing.assert_close(found, gradients(layer, layer, features))


@pytest.mark.slow
@pytest.mark.usefixtures("fresh_compiler")
def test_compiles_with_layers_around_it_through_inductor() -> None:
    """Maps in channels-last order test the strides that the operator promises the compiler."""
    model = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), layer_of("gap")).to(
        memory_format=torch.channels_last
    )
    images = torch.rand(2, 3, 8, 8).to(memory_format=torch.channels_last).requires_grad_()
    compiled = torch.compile(model, fullgraph=True)
    found = gradients(compiled, model, images)
    torch.testing.assert_close(found, gradients(model, model, images))


def test_is_one_node_of_an_exported_program() -> None:
    features = torch.rand(2, 6, 3, 4)
    batch, height, width = (torch.export.Dim(name) for name in ("batch", "height", "width"))
    program = torch.export.export(
        layer_of("gap"), (features,), dynamic_shapes=({0: batch, 2: height, 3: width},)
    )
    targets = [str(node.target) for node in program.graph.nodes if node.op == "call_function"]
    called = [target for target in targets if "getitem" not in target]
    assert called.count("gsp_deploy.generalized_sum_pooling.default") == 1
    assert not any("conv" in target or "bmm" in target for target in called)
    larger = torch.rand(3, 6, 5, 2)
    torch.testing.assert_close(program.module()(larger), layer_of("gap")(larger))


@pytest.mark.parametrize("name", SETTINGS)
def test_vmap_over_maps_equals_one_call_for_each(name: str) -> None:
    layer = layer_of(name)
    stacks = torch.rand(3, 2, 6, 3, 4, requires_grad=True)
    found = torch.func.vmap(layer)(stacks)
    apart = [layer(features) for features in stacks]
    expected = PoolingOutput(*(torch.stack(values) for values in zip(*apart, strict=True)))
    for batched, single in zip(found, expected, strict=True):
        torch.testing.assert_close(batched, single)
    inputs = stacks, *layer.parameters()
    torch.testing.assert_close(
        torch.autograd.grad(found.embedding[..., 0].sum(), inputs, allow_unused=True),
        torch.autograd.grad(expected.embedding[..., 0].sum(), inputs, allow_unused=True),
    )


def test_vmap_over_an_ensemble_of_parameters() -> None:
    layers = [layer_of("gap"), GeneralizedSumPooling(GSPConfig(6, 5, 4))]
    features = torch.rand(2, 6, 3, 4)
    stacked, _ = torch.func.stack_module_state(layers)

    def call(parameters: dict[str, Tensor]) -> Tensor:
        return torch.func.functional_call(layers[0], parameters, (features,)).embedding

    found = torch.func.vmap(call)(stacked)
    torch.testing.assert_close(found, torch.stack([layer(features)[0] for layer in layers]))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_autocast_computes_in_float32(dtype: torch.dtype) -> None:
    layer = layer_of("gap")
    features = torch.rand(2, 6, 3, 4).to(dtype).requires_grad_()
    with torch.autocast("cpu", dtype=dtype):
        out = layer(features)
    assert torch.equal(out.embedding, layer(features.float()).embedding)
    assert {value.dtype for value in out} == {torch.float32}
    found = gradients(layer, layer, features)
    assert [gradient.dtype for gradient in found] == [dtype, *[torch.float32] * (len(found) - 1)]


def test_a_frozen_backbone_costs_no_gradient_of_the_maps() -> None:
    layer = layer_of("gap")
    layer(torch.rand(2, 6, 3, 4)).embedding.sum().backward()
    assert layer.prototypes.grad is not None
    layer.requires_grad_(False)
    features = torch.rand(2, 6, 3, 4, requires_grad=True)
    layer(features).weights.square().sum().backward()
    assert features.grad is not None


def test_the_certificates_carry_no_gradient() -> None:
    out = layer_of("gap")(torch.rand(2, 6, 3, 4, requires_grad=True))
    assert [value.requires_grad for value in out] == [True, True, True, False, False]


@pytest.mark.parametrize("name", SETTINGS)
def test_forward_and_backward_stay_on_their_device(name: str) -> None:
    """The operator itself hides this from PyTorch's fake tensors, so its inside is run here."""
    with FakeTensorMode(), torch.device("cuda", 0):
        layer = layer_of(name)
        features = torch.rand(2, 6, 3, 4)
    inputs = features, layer.embed.weight, layer.embed.bias, layer.prototypes, layer.power
    settings = PoolingSettings.of(layer.config, layer.problem)
    with features.fake_mode, torch.no_grad():
        outputs = pool(inputs, settings)
        pulled = [torch.ones_like(value) for value in outputs[:3]]
        found = gradients_of(pulled, inputs, outputs[5:], [True] * 5, settings)
    everything = (*outputs, *(gradient for gradient in found if gradient is not None))
    assert {tensor.device for tensor in everything} == {torch.device("cuda", 0)}


@pytest.mark.slow
def test_ddp_and_both_fsdps_train_on_two_processes_as_on_one(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(WRAPPED), str(tmp_path / "store")],
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split() == ["ddp", "fsdp", "fully_shard"]


def test_the_layer_returns_the_outputs_that_a_model_has() -> None:
    assert PoolingOutput._fields == tuple(OUTPUTS)

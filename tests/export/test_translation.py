"""The layer in networks of any kind, through PyTorch's own exporter."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from two_heads import TwoHeads

from gsp_deploy import GeneralizedSumPooling, GSPConfig
from gsp_deploy.export import ExportOptions, translations

NAMES = ["embedding", "attributes", "weights", "bound", "residual"]
SETTINGS = {
    "gap": {},
    "gmp without bias": {"pooling": "gmp", "bias": False},
    "gem with residual": {"pooling": "gem", "max_residual": True},
}
WITHIN = 2e-6


def exported(model: nn.Module, path: Path, **options: object) -> onnx.ModelProto:
    table = options.pop("table", None) or translations()
    sizes = ({0: "batch", 2: "height", 3: "width"},)
    program = torch.onnx.export(
        model.eval(),
        (torch.rand(2, 3, 20, 20),),
        dynamo=True,
        custom_translation_table=table,
        dynamic_shapes=sizes,
        input_names=["images"],
        output_names=NAMES,
        verbose=False,
        **options,
    )
    program.save(path)
    onnx.checker.check_model(str(path), full_check=True)
    return onnx.load(path)


def assert_same(model: nn.Module, path: Path) -> None:
    images = torch.rand(3, 3, 26, 31)
    session = onnxruntime.InferenceSession(path)
    with torch.no_grad():
        expected = model(images)
    for name, found, wanted in zip(
        NAMES, session.run(NAMES, {"images": images.numpy()}), expected, strict=True
    ):
        np.testing.assert_allclose(found, wanted.numpy(), atol=WITHIN, rtol=WITHIN, err_msg=name)


@pytest.mark.parametrize("name", SETTINGS)
def test_two_heads_with_layers_after_them_compute_the_same(name: str, tmp_path: Path) -> None:
    model = TwoHeads(**SETTINGS[name])
    network = exported(model, tmp_path / "model.onnx")
    assert {node.domain for node in network.graph.node} == {""}
    assert_same(model, tmp_path / "model.onnx")


@pytest.mark.parametrize(("opset", "optimize"), [(18, False), (22, True)])
def test_every_opset_and_without_the_optimiser(opset: int, optimize: bool, tmp_path: Path) -> None:
    model = TwoHeads()
    exported(model, tmp_path / "model.onnx", opset_version=opset, optimize=optimize)
    assert_same(model, tmp_path / "model.onnx")


def test_one_table_serves_several_exports(tmp_path: Path) -> None:
    table = translations()
    for _ in range(2):
        model = TwoHeads()
        network = exported(model, tmp_path / "model.onnx", table=table)
        assert_same(model, tmp_path / "model.onnx")
        assert any(node.name == "gsp/2/cost" for node in network.graph.node)
        assert not any(node.name.startswith("gsp/3/") for node in network.graph.node)


def test_the_options_choose_the_solver(tmp_path: Path) -> None:
    table = translations(options=ExportOptions(solver="newton", iterations=7))
    network = exported(TwoHeads(), tmp_path / "model.onnx", table=table)
    steps = {node.name.split("/")[1] for node in network.graph.node if "/newton_" in node.name}
    assert {step for step in steps if step.startswith("newton")} == {
        f"newton_{step}" for step in range(1, 8)
    }


@pytest.mark.parametrize("pooling", ["gap", "gmp"])
def test_the_plugin_is_one_node_for_each_layer(pooling: str, tmp_path: Path) -> None:
    network = exported(
        TwoHeads(pooling=pooling), tmp_path / "model.onnx", table=translations(pooling="plugin")
    )
    nodes = [node for node in network.graph.node if node.domain == "gsp.deploy"]
    assert [node.op_type for node in nodes] == ["GeneralizedSumPooling"] * 2
    assert {entry.domain for entry in network.opset_import} == {"", "gsp.deploy"}
    settings = [
        {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}
        for node in nodes
    ]
    assert [(s["output_weights"], s["output_attributes"]) for s in settings] == [(1, 0), (0, 1)]
    assert [round(s["transport_ratio"], 6) for s in settings] == [0.3, 0.5]
    weights = {item.name: item for item in network.graph.initializer}
    prototypes = onnx.numpy_helper.to_array(weights[nodes[0].input[1]])
    assert np.linalg.norm(prototypes, axis=1).max() <= 1 + 1e-6


def test_the_plugin_with_gem_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(Exception, match=r".") as raised:
        exported(
            TwoHeads(pooling="gem"), tmp_path / "model.onnx", table=translations(pooling="plugin")
        )
    assert "stores the power of gem" in innermost(raised.value)


def test_computed_parameters_are_refused_in_one_line(tmp_path: Path) -> None:
    model = TwoHeads()
    parametrize.register_parametrization(model.first, "prototypes", nn.Tanh())
    with pytest.raises(Exception, match=r".") as raised:
        exported(model, tmp_path / "model.onnx")
    assert "are computed in the network" in innermost(raised.value)


def innermost(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error)


class Shared(nn.Module):
    """One layer that is called twice."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Conv2d(3, 8, 3)
        self.pool = GeneralizedSumPooling(GSPConfig(8, 6, 5))

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        features = self.body(images)
        first, second = self.pool(features), self.pool(features.flip(1))
        return first.embedding, second.attributes, second.weights, first[4], second.residual


def test_a_layer_can_be_called_twice(tmp_path: Path) -> None:
    model = Shared()
    exported(model, tmp_path / "model.onnx")
    assert_same(model, tmp_path / "model.onnx")

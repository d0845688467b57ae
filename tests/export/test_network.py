"""`export_onnx` of networks that are not an `EmbeddingModel`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn
from two_heads import TwoHeads

from gsp_deploy import GeneralizedSumPooling, GSPConfig, PreprocessingSpec, open_session
from gsp_deploy.artifact.pooling_node import expand_pooling
from gsp_deploy.errors import GspDeployError, ModelFileError, UsageError
from gsp_deploy.export import Calibration, ExportOptions, export_onnx
from gsp_deploy.export.twin import write_twin
from gsp_deploy.images.normalisation import normalise
from gsp_deploy_cli.tables.export import report

SIDE = 24
SPEC = PreprocessingSpec(SIDE, SIDE, resize="stretch")
EXAMPLE = torch.rand(2, 3, SIDE, SIDE)
FEW = Calibration(
    np.random.default_rng(0).integers(0, 256, (4, SIDE, SIDE, 3), dtype=np.uint8), "noise", SPEC
)


class Named(nn.Module):
    """Returns a dict, in which the embedding is not the first."""

    def __init__(self, **settings: object) -> None:
        super().__init__()
        self.heads = TwoHeads(**settings)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        embedding, attributes, weights, *_ = self.heads(images)
        return {"aux": attributes, "embedding": embedding, "map": weights}


class Plain(nn.Module):
    """Has no GSP layer."""

    def __init__(self, answer: Any = None) -> None:
        super().__init__()
        self.body, self.answer = nn.Conv2d(3, 5, 3), answer

    def forward(self, images: Tensor) -> Any:
        found = self.body(images).mean(dim=(2, 3))
        return found if self.answer is None else self.answer(found)


def export(model: nn.Module, path: Path, **options: Any) -> Any:
    return export_onnx(
        model.eval(),
        path,
        ExportOptions(**options),
        FEW,
        example=EXAMPLE,
        preprocessing=SPEC,
    )


def compare(model: nn.Module, path: Path, within: float, side: int = SIDE) -> None:
    draw = np.random.default_rng(1)
    session = onnxruntime.InferenceSession(path)
    source = session.get_inputs()[0]
    pixels = draw.integers(0, 256, (3, side, side, 3), dtype=np.uint8)
    images = normalise(pixels, SPEC)
    feed = pixels if source.type == "tensor(uint8)" else images
    with torch.no_grad():
        expected = model(torch.from_numpy(images))
    for name in ("embedding", "aux", "map"):
        (found,) = session.run([name], {"images": feed})
        np.testing.assert_allclose(found, expected[name].numpy(), atol=within, rtol=within)


def test_two_layers_are_certified_for_every_input(tmp_path: Path) -> None:
    model = Named()
    exported = export(model, tmp_path / "model.onnx", dynamic_size=True)
    manifest = exported.manifest
    assert [spec.name for spec in manifest.outputs] == ["embedding", "aux", "map"]
    assert manifest.inputs[0].shape == ("batch", 3, "height", "width")
    assert manifest.model.backbone == "Named"
    assert manifest.model.head == model.heads.first.config
    proofs = [manifest.certificate, *manifest.further_certificates]
    assert [proof.solver for proof in proofs] == ["certified", "certified"]
    assert all(proof.guarantee.weight_error > proof.worst_weight_error for proof in proofs)
    assert proofs[0].guarantee.log_mass_range != proofs[1].guarantee.log_mass_range
    compare(model, exported.path, 2e-6, side=SIDE + 8)


def test_a_session_embeds_with_it(tmp_path: Path) -> None:
    model = Named()
    exported = export(model, tmp_path / "model.onnx", include_preprocessing=True)
    with open_session(exported.path) as session:
        found = session.embed(FEW.inputs)
    with torch.no_grad():
        expected = model(torch.from_numpy(normalise(FEW.inputs, SPEC)))["embedding"]
    np.testing.assert_allclose(found, expected.numpy(), atol=2e-6)


def test_two_layers_are_two_bare_nodes(tmp_path: Path) -> None:
    exported = export(Named(pooling="gem"), tmp_path / "model.onnx", pooling_form="plugin-bare")
    network = onnx.load(exported.path)
    nodes = [node for node in network.graph.node if node.domain == "gsp.deploy"]
    assert [node.name for node in nodes] == ["gsp/pooling", "gsp/2/pooling"]
    assert not network.functions
    with pytest.raises(UsageError, match="has 2 GSP layers, and TensorRT would give"):
        export(Named(), tmp_path / "refused.onnx", pooling_form="plugin")


def test_a_single_node_has_a_body(tmp_path: Path) -> None:
    model = WithNeck()
    exported = export(model, tmp_path / "model.onnx", pooling_form="plugin")
    network = onnx.load(exported.path)
    assert [function.name for function in network.functions] == ["GeneralizedSumPooling"]
    images = torch.rand(3, 3, SIDE, SIDE)
    onnx.save(expand_pooling(network), tmp_path / "unfolded.onnx")
    for path in (exported.path, tmp_path / "unfolded.onnx"):
        (found,) = onnxruntime.InferenceSession(path).run(None, {"images": images.numpy()})
        with torch.no_grad():
            np.testing.assert_allclose(found, model(images).numpy(), atol=2e-6)


def test_half_precision_keeps_both_solvers_in_float32(tmp_path: Path) -> None:
    model = Named()
    exported = export(
        model, tmp_path / "m.onnx", precision="fp16", include_preprocessing=True, opset=17
    )
    compare(model, exported.path, 5e-3)
    network = onnx.load(exported.path)
    half = onnx.TensorProto.FLOAT16
    kinds = {v.name: v.type.tensor_type.elem_type for v in network.graph.value_info}
    assert kinds["gsp/2/cost"] == kinds["gsp/weights"] == onnx.TensorProto.FLOAT
    assert any(item.data_type == half for item in network.graph.initializer)


def test_newton_gets_the_steps_of_the_hardest_known_inputs(tmp_path: Path) -> None:
    model = Named()
    proof = export(model, tmp_path / "m.onnx", solver="newton").manifest.certificate
    assert proof.solver == "newton"
    assert proof.guarantee is None
    assert proof.worst_relative_weight_error < 1e-5


def test_the_callers_model_stays_as_it_is(tmp_path: Path) -> None:
    model = Plain().double().train()
    export_onnx(model, tmp_path / "m.onnx", calibration=FEW, example=EXAMPLE)
    assert model.training
    assert model.body.weight.dtype == torch.float64


def test_a_network_without_gsp_says_so(tmp_path: Path) -> None:
    manifest = export(Plain(), tmp_path / "m.onnx").manifest
    assert manifest.certificate is None
    assert "no GSP head" in manifest.model.head.in_words
    with pytest.raises(UsageError, match="no GSP head"):
        export(Plain(), tmp_path / "p.onnx", pooling_form="plugin")
    assert not (tmp_path / "p.onnx").exists()


class AllKept(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.pool = GeneralizedSumPooling(GSPConfig(3, 4, 2, transport_ratio=1.0))

    def forward(self, images: Tensor) -> Any:
        return self.pool(images)


def test_the_layers_own_output_is_named_by_its_fields(tmp_path: Path) -> None:
    manifest = export(AllKept(), tmp_path / "m.onnx").manifest
    names = [spec.name for spec in manifest.outputs]
    assert names == ["embedding", "attributes", "weights", "residual", "embedding_bound"]
    assert manifest.certificate is None  # nothing to solve


BAD: dict[str, tuple[Any, dict[str, Any], str]] = {
    "no example": (Plain(), {"example": None}, "pass example=images"),
    "example of features": (Plain(), {"example": torch.rand(2, 5, 8, 8)}, "expected example"),
    "other size": (Plain(), {"example": torch.rand(2, 3, 9, 9)}, "pass one size"),
    "an output that is asked for": (
        Plain(), {"options": ExportOptions(outputs=("weights",))}, "decides what it returns"
    ),
    "int8": (Plain(), {"options": ExportOptions(precision="int8")}, "EmbeddingModel.of"),
    "a map": (Plain(lambda x: x[:, :, None, None]), {}, "expected one embedding per image"),
    "a string": (Plain(lambda x: "text"), {}, "expected a tensor, a tuple or a dict, got str"),
    "two without a name": (
        Plain(lambda x: {"a": x, "b": x}), {}, "returns a, b; name the entry that"
    ),
    "nested": (Plain(lambda x: {"a": {"b": x}}), {}, "output 'a' is a dict"),
    "nothing": (Plain(lambda x: {}), {}, "returns no tensor"),
    "wrong channels": (nn.Sequential(nn.Conv2d(4, 2, 3)), {}, "cannot embed an example"),
    "not exportable": (
        Plain(lambda x: x if bool(x.sum() > 0) else -x), {}, "exporter refused"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_what_does_not_fit_is_refused_in_one_line(name: str, tmp_path: Path) -> None:
    model, given, message = BAD[name]
    settings = {"calibration": FEW, "example": EXAMPLE, "preprocessing": SPEC, **given}
    with pytest.raises(GspDeployError, match=message) as raised:
        export_onnx(model, tmp_path / "m.onnx", **settings)
    assert "\n" not in str(raised.value)
    assert not list(tmp_path.iterdir())


class WithNeck(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.pool, self.neck = GeneralizedSumPooling(GSPConfig(3, 4, 2)), nn.Linear(4, 4)

    def forward(self, images: Tensor) -> Tensor:
        return self.neck(self.pool(images).embedding)


def test_a_network_with_layers_after_its_pooling_has_no_twin(tmp_path: Path) -> None:
    exported = export(WithNeck(), tmp_path / "m.onnx")
    with pytest.raises(ModelFileError, match="layers follow the pooling"):
        write_twin(exported.path, tmp_path / "twin.onnx")


def test_the_command_lists_the_guarantee_of_every_layer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report(export(Named(), tmp_path / "m.onnx"), json=False)
    assert "guarantee 2" in capsys.readouterr().out

"""What `inspect` shows for each artifact, and for files that are none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import onnx
import pytest

from gsp_deploy.artifact import read_sidecar, write_sidecar
from gsp_deploy.config import AdoptedHead, ModelConfig
from gsp_deploy.errors import CheckpointError, GspDeployError, ModelFileError, UsageError
from gsp_deploy.export import ExportOptions, export_onnx
from gsp_deploy.inspection import inspect_file


@pytest.fixture(scope="module")
def exported(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from gsp_deploy import load_checkpoint

    path = tmp_path_factory.mktemp("export") / "tiny.onnx"
    export_onnx(load_checkpoint(tiny_checkpoint), path, ExportOptions(iterations=3))
    return path


def test_a_checkpoint_shows_its_config(tiny_checkpoint: Path) -> None:
    found = inspect_file(tiny_checkpoint)
    assert found.kind == "checkpoint"
    assert found.facts["model"]["head"]["num_prototypes"] == 4
    assert found.facts["parameters"] > 0


def test_a_bare_state_dict_is_recognised(golden: Path) -> None:
    found = inspect_file(golden / "official_head_state_dict.pt")
    assert found.kind == "state dict without settings"
    assert "prototypes [64, 16]" in found.facts["first tensors"]


def test_an_exported_model_shows_its_certificate_and_operators(exported: Path) -> None:
    found = inspect_file(exported)
    assert found.kind == "exported model"
    assert found.facts["certificate"]["steps"] == 3
    assert sum(found.facts["operators"].values()) == found.facts["nodes"]["total"]
    nodes = onnx.load(exported).graph.node
    head = [node for node in nodes if node.name.startswith("gsp/")]
    assert found.facts["nodes"] == {"total": len(nodes), "pooling head": len(head)}
    assert found.warnings == ()


def test_the_solver_of_the_file_is_not_the_one_that_it_was_trained_with(exported: Path) -> None:
    facts = inspect_file(exported).facts
    assert facts["trained_with"] == "newton, 20 steps"
    assert facts["solver"] == "certified, 5 points and 3 steps"
    assert {"solver", "iterations", "initial_scale"}.isdisjoint(facts["model"]["head"])
    assert facts["pooling_form"] == "unrolled"


def test_an_adopted_network_has_no_form_of_the_pooling(exported: Path, tmp_path: Path) -> None:
    manifest, path = read_sidecar(exported), tmp_path / "any.onnx"
    assert manifest is not None
    model = ModelConfig("net", AdoptedHead(8), manifest.model.preprocessing)
    write_sidecar(replace(manifest, model=model, certificate=None), path)
    facts = inspect_file(path.with_name("any.onnx.json")).facts
    assert {"pooling_form", "solver", "trained_with"}.isdisjoint(facts)


def test_a_manifest_shows_the_same_as_its_model(exported: Path) -> None:
    found = inspect_file(exported.with_name(exported.name + ".json"))
    assert found.kind == "manifest"
    assert found.facts["certificate"] == inspect_file(exported).facts["certificate"]


def test_a_manifest_of_another_file_is_noticed(exported: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.onnx"
    other.write_bytes(exported.read_bytes() + b"")
    sidecar = exported.with_name(exported.name + ".json").read_text()
    (tmp_path / "other.onnx.json").write_text(sidecar.replace('"sha256": "', '"sha256": "0'))
    assert "is not the file that other.onnx.json describes" in inspect_file(other).warnings[0]


@pytest.mark.parametrize(
    ("name", "content", "error"),
    [
        ("a.onnx", b"no onnx", ModelFileError),
        ("a.onnx", b"", ModelFileError),
        ("a.json", b"\xff\xfe", ModelFileError),
        ("a.json", b"{}", ModelFileError),
        ("a.safetensors", b"junk", CheckpointError),
        ("a.pt", b"junk", CheckpointError),
        ("a.txt", b"", UsageError),
    ],
)
def test_unknown_files_are_refused_by_name(
    tmp_path: Path, name: str, content: bytes, error: type[GspDeployError]
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(error, match=name):
        inspect_file(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="no such file"):
        inspect_file(tmp_path / "gone.onnx")


def test_weights_that_old_files_list_as_inputs_are_no_inputs(
    exported: Path, tmp_path: Path
) -> None:
    """Up to IR version 3 every initializer had to be an input too."""
    model = onnx.load(exported)
    told = inspect_file(exported).facts["inputs"]
    model.ir_version = 3
    for weight in model.graph.initializer:
        model.graph.input.append(
            onnx.helper.make_tensor_value_info(weight.name, weight.data_type, weight.dims)
        )
    onnx.save(model, tmp_path / "old.onnx")
    assert inspect_file(tmp_path / "old.onnx").facts["inputs"] == told
    assert len(told) == 1

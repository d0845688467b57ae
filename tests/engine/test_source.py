"""The ONNX file that an engine is built from is made as asked, or refused with a reason."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from gsp_deploy import EmbeddingModel, GSPConfig, ModelConfig, load_checkpoint
from gsp_deploy.artifact import read_sidecar
from gsp_deploy.checkpoint import save_checkpoint
from gsp_deploy.engine.source import SourceOptions, onnx_of
from gsp_deploy.errors import ModelFileError, UsageError
from gsp_deploy.export import ExportOptions, export_onnx


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A head alone, which exports at once."""
    torch.manual_seed(0)
    head = GSPConfig(6, 5, 4, solver="newton")
    path = tmp_path_factory.mktemp("source") / "head.safetensors"
    save_checkpoint(EmbeddingModel(ModelConfig("features", head, None)), path)
    return path


@pytest.fixture(scope="module")
def export(checkpoint: Path) -> Path:
    path = checkpoint.with_suffix(".onnx")
    export_onnx(load_checkpoint(checkpoint), path, ExportOptions(iterations=3))
    return path


@pytest.fixture(params=["checkpoint", "export"])
def source(request: pytest.FixtureRequest) -> Path:
    return request.getfixturevalue(request.param)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize(("pooling", "form"), [("unrolled", "unrolled"), ("plugin", "plugin-bare")])
def test_every_precision_comes_with_every_pooling(
    source: Path, precision: str, pooling: str, form: str
) -> None:
    with onnx_of(source, SourceOptions(precision, pooling)) as graph:
        made = read_sidecar(graph)
        assert (made.precision, made.pooling_form) == (precision, form)
    assert graph == source or not graph.exists()  # what was made on the way is gone


def test_an_export_that_is_as_asked_is_taken_as_it_is(export: Path) -> None:
    for options in (SourceOptions(), SourceOptions("fp32")):
        with onnx_of(export, options) as graph:
            assert graph == export


def test_a_made_file_can_be_kept(source: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept.onnx"
    with onnx_of(source, SourceOptions("fp16", "plugin", keep=kept)) as graph:
        assert graph == kept
    assert read_sidecar(kept).precision == "fp16"
    assert {file.name for file in tmp_path.iterdir()} == {"kept.onnx", "kept.onnx.json"}


def test_each_step_is_reported(checkpoint: Path, export: Path) -> None:
    lines: list[str] = []
    with onnx_of(checkpoint, SourceOptions(), lines.append):
        assert lines == ["exporting head.safetensors"]
    with onnx_of(export, SourceOptions("fp16"), lines.append):
        assert lines[1:] == ["converting head.onnx to fp16"]


def test_open_sizes_are_asked_of_the_export(checkpoint: Path, monkeypatch) -> None:
    asked: list[ExportOptions] = []
    monkeypatch.setattr(
        "gsp_deploy.export.export_onnx",
        lambda model, path, options, **how: asked.append(options) or export_onnx(model, path),
    )
    for dynamic in (True, False):
        with onnx_of(checkpoint, SourceOptions(dynamic_size=dynamic)):
            assert asked[-1].dynamic_size == dynamic


@pytest.mark.parametrize(
    ("name", "options", "error", "words"),
    [
        ("none.onnx", {}, ModelFileError, "none.onnx: no such file"),
        ("model.engine", {}, UsageError, r"expected a model ending in \.onnx, .*got \.engine$"),
        ("model", {}, UsageError, "got no suffix$"),
        ("{onnx}", {"dynamic_size": True}, UsageError, "--dynamic-size needs a checkpoint"),
        ("{onnx}", {"keep": Path("kept.onnx")}, UsageError, "is built as it is, nothing is made"),
        ("{checkpoint}", {"precision": "int8"}, UsageError, "--precision int8 --calibrate FOLDER"),
    ],
)
def test_an_impossible_request_is_refused(
    name: str, options: dict, error, words: str, checkpoint, export, tmp_path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for file in ("model.engine", "model"):
        Path(file).write_bytes(b"something")
    source = Path(name.format(onnx=export, checkpoint=checkpoint))
    with pytest.raises(error, match=words), onnx_of(source, SourceOptions(**options)):
        pytest.fail("there is nothing to build from")
    assert not Path("kept.onnx").exists()


def test_a_pooling_that_is_none_is_refused() -> None:
    with pytest.raises(UsageError, match="--pooling must be unrolled or plugin, got 'folded'"):
        SourceOptions(pooling="folded")

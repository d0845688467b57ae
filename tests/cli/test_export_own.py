"""`gsp-deploy export package.module:function`: a network that the user names."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

MODULE = """
import torch
from torch import nn
from gsp_deploy import EmbeddingModel, GeneralizedSumPooling, GSPConfig, PreprocessingSpec

SIZE = 3


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Conv2d(3, 8, 8, 8)
        self.pool = GeneralizedSumPooling(GSPConfig(8, 6, 4))
        self.neck = nn.Linear(6, 5)

    def forward(self, images):
        return self.neck(self.pool(self.body(images)).embedding)


def build():
    torch.manual_seed(0)
    return Net()


def whole():
    head = GSPConfig(8, 6, 4)
    return EmbeddingModel.of(nn.Conv2d(3, 8, 8, 8), head, PreprocessingSpec(32, 32))


def broken():
    raise ValueError("no data\\nhere")


def leaving():
    raise SystemExit(0)


def a_dict():
    return {}
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with the user's package, which is the current one."""
    before = list(sys.path)
    package = tmp_path / "birdnets"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "models.py").write_text(MODULE)
    (package / "torn.py").write_text("import a_package_that_is_not_there\n")
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    sys.path[:] = before
    for name in [name for name in sys.modules if name.partition(".")[0] == "birdnets"]:
        del sys.modules[name]


def test_a_factory_with_weights_is_exported(run_here, here: Path) -> None:
    from gsp_deploy import open_session

    code, _, err = run_here(
        "export", "birdnets.models:build", "--image-size", 32, "-o", "m.onnx", "--json"
    )
    assert code == 0, err
    from birdnets.models import Net

    trained = Net()
    state = {f"module.{name}": value for name, value in trained.state_dict().items()}
    save_file(state, here / "w.safetensors")
    code, out, err = run_here(
        "export", "birdnets.models:build", "--weights", "w.safetensors", "--image-size", 32,
        "--mean", 0, 0, 0, "--std", 1, 1, 1, "-o", "w.onnx", "--json",
    )  # fmt: skip
    assert code == 0, err
    manifest = json.loads(out)["manifest"]
    assert manifest["model"]["backbone"] == "Net"
    assert manifest["model"]["preprocessing"]["height"] == 32
    assert manifest["certificate"]["guarantee"]["weight_error"] < 0.01
    assert len(manifest["source_sha256"]) == 64
    images = torch.rand(2, 3, 32, 32)
    with open_session(here / "w.onnx") as session, torch.no_grad():
        found = torch.from_numpy(session.embed(images.numpy()))
        torch.testing.assert_close(found, trained.eval()(images))


def test_a_factory_of_a_whole_embedding_model(run_here, here: Path) -> None:
    code, out, err = run_here(
        "export", "birdnets.models:whole", "--also", "weights", "-o", "m.onnx", "--json"
    )
    assert code == 0, err
    names = [spec["name"] for spec in json.loads(out)["manifest"]["outputs"]]
    assert names == ["embedding", "weights"]
    code, _, err = run_here("export", "birdnets.models:whole", "--image-size", 9, "-o", "n.onnx")
    assert (code, "--image-size is settled in birdnets.models:whole" in err) == (2, True)


REFUSED = {
    "nowhere:build": (2, "there is no module 'nowhere'"),
    "birdnets.nowhere:build": (2, "there is no module 'birdnets.nowhere'"),
    "birdnets.models.deeper:build": (2, "there is no module 'birdnets.models.deeper'"),
    "birdnets.torn:build": (1, "importing birdnets.torn failed: ModuleNotFoundError"),
    "birdnets.models:bild": (
        2,
        "birdnets.models has no attribute 'bild'; expected a function or class that returns a "
        "torch.nn.Module, as one of Net, build",
    ),
    "birdnets.models:SIZE.bild": (2, "has no attribute 'SIZE.bild'"),
    "birdnets.models:SIZE": (2, "expected a function, got int"),
    "birdnets.models:broken": (1, "birdnets.models:broken() failed: ValueError: no data"),
    "birdnets.models:leaving": (1, "leaving() failed: SystemExit"),
    "birdnets.models:a_dict": (2, "to return a torch.nn.Module, got dict"),
}


@pytest.mark.parametrize("factory", REFUSED)
def test_what_cannot_be_built_is_one_line(factory: str, run_here, here: Path) -> None:
    wanted, message = REFUSED[factory]
    code, _, err = run_here("export", factory, "-o", "m.onnx")
    assert (code, err.count("\n"), message in err) == (wanted, 1, True), err
    assert not (here / "m.onnx").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("birdnets.models:build", "--backbone", "resnet18"), "--backbone is settled in birdnets"),
        (("birdnets.models:build", "--transport-ratio", 0.5), "--transport-ratio is settled"),
        (("birdnets.models:build", "--weights", "none.pt"), "none.pt: no such file"),
        (("w.safetensors", "--weights", "w.safetensors"), "--weights belongs to a network of your"),
    ],
)
def test_options_that_do_not_fit_are_refused(arguments, message, run_here, here: Path) -> None:
    save_file({"x": torch.ones(1)}, here / "w.safetensors")
    code, _, err = run_here("export", *arguments, "-o", "m.onnx")
    assert (code, err.count("\n"), message in err) == (2, 1, True), err


def test_no_other_command_imports_a_module(run_here, here: Path) -> None:
    for command in (("convert", "-o", "x.safetensors"), ("build", "-o", "x"), ("inspect",)):
        code, _, err = run_here(*command, "birdnets.models:build")
        assert (code, "no such file" in err) == (2, True), err
    assert "birdnets" not in sys.modules

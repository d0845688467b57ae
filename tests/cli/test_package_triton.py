"""`gsp-deploy package --format triton`: what is written, what is refused."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest
from PIL import Image


@pytest.fixture
def package(tiny_export: str, tmp_path: Path, run_here):
    """Return a function that packages the tiny model: exit code, stdout, stderr."""
    picture = tmp_path / "golden.png"
    Image.effect_noise((40, 40), 90).convert("RGB").save(picture)
    output = tmp_path / "repository"
    return partial(run_here, "package", tiny_export, "-o", output, "--images", picture)


def test_it_writes_a_model_repository(package, tmp_path: Path) -> None:
    settings = ("--format", "triton", "--name", "search", "--max-batch", "8", "--json")
    code, out, err = package(*settings)
    assert code == 0, err
    document = json.loads(out)
    assert (document["document"], document["name"]) == ("triton-repository", "search")
    for model in document["models"]:
        assert (tmp_path / "repository" / model / "config.pbtxt").is_file()
    code, _, err = package("--format", "triton")
    assert (code, "--force" in err) == (2, True)
    assert package("--format", "triton", "--force")[0] == 0


@pytest.mark.parametrize("name", ["other/config.pbtxt", "search/2/model.onnx", "diary.txt"])
def test_force_keeps_a_model_of_another_hand(package, name: str, tmp_path: Path) -> None:
    settings = ("--format", "triton", "--name", "search")
    assert package(*settings)[0] == 0
    mine = tmp_path / "repository" / name
    mine.parent.mkdir(parents=True, exist_ok=True)
    mine.write_text("mine")
    code, _, err = package(*settings, "--force")
    assert (code, f"contains {name}" in err) == (2, True)
    assert mine.read_text() == "mine"


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--format", "tar"), "bundle, triton"),
        (("--max-batch", "8"), "--max-batch belongs to --format triton"),
        (("--format", "triton", "--license", __file__), "--license belongs to --format bundle"),
        (("--format", "triton", "--placement", "tpu"), "auto, cpu, gpu"),
    ],
)
def test_options_that_do_not_belong(package, arguments, named, tmp_path: Path) -> None:
    code, _, err = package(*arguments)
    assert code == 2
    assert named in err
    assert not (tmp_path / "repository").exists()

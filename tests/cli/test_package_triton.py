"""`gsp-deploy package --format triton`: what is written, what is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image


@pytest.fixture
def package(tiny_export: str, tmp_path: Path):
    """Return a function that packages the tiny model."""
    picture = tmp_path / "golden.png"
    Image.effect_noise((40, 40), 90).convert("RGB").save(picture)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "gsp_deploy_cli.main", "package", tiny_export]
        settings = ["-o", str(tmp_path / "repository"), "--images", str(picture), *arguments]
        return subprocess.run(
            [*command, *settings], capture_output=True, text=True, check=False, timeout=120
        )

    return run


def test_it_writes_a_model_repository(package, tmp_path: Path) -> None:
    ran = package("--format", "triton", "--name", "search", "--max-batch", "8", "--json")
    assert ran.returncode == 0, ran.stderr
    document = json.loads(ran.stdout)
    assert (document["document"], document["name"]) == ("triton-repository", "search")
    for model in document["models"]:
        assert (tmp_path / "repository" / model / "config.pbtxt").is_file()
    again = package("--format", "triton")
    assert (again.returncode, "--force" in again.stderr) == (2, True)
    assert package("--format", "triton", "--force").returncode == 0


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--format", "tar"), "bundle or triton"),
        (("--max-batch", "8"), "--max-batch belongs to --format triton"),
        (("--format", "triton", "--license", "x"), "--license belongs to --format bundle"),
        (("--format", "triton", "--placement", "tpu"), "auto, cpu, gpu"),
    ],
)
def test_options_that_do_not_belong(package, arguments, named, tmp_path: Path) -> None:
    ran = package(*arguments)
    assert ran.returncode == 2
    assert named in ran.stderr
    assert not (tmp_path / "repository").exists()

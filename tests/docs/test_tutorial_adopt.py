"""Run the tutorial on adopting a network, on small networks with random weights."""

from __future__ import annotations

import contextlib
import json
import re
import shlex
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gsp_deploy.artifact import read_sidecar
from gsp_deploy.engine.api import installed_flavours
from gsp_deploy_cli import main as frame

PAGE = Path(__file__).parents[2] / "docs" / "tutorials" / "adopt.md"
BLOCK = re.compile(r"^```(python|console)\n(.*?)^```", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"^\$ ((?:.*\\\n)*.*)", re.MULTILINE)
# In place of published weights.
SMALL = "pretrained=False, depth=1, embed_dim=48, num_heads=2"
PUBLISHED = "pretrained=True"
DINOV3, SIGLIP = "vit_small_patch16_dinov3.lvd1689m", "vit_base_patch16_siglip_224.webli"
# What a test adds, to be done sooner.
QUICK = {
    "bench": ["--repeats", "2", "--batch", "1", "--no-memory"],
    "build": ["--batch", "1", "--target", "sm_86", "--flavour", "tensorrt-rtx"],
}
GATE_FAILED = 3  # of random weights


def blocks(kind: str) -> list[str]:
    return [
        text for found, text in BLOCK.findall(PAGE.read_text(encoding="utf-8")) if found == kind
    ]


def commands() -> list[list[str]]:
    text = "\n".join(blocks("console"))
    return [shlex.split(line.replace("\\\n", " ")) for line in COMMAND.findall(text)]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The reader's folder, with images of two classes."""
    monkeypatch.chdir(tmp_path)
    draw = np.random.default_rng(0)
    for label in ("a", "b"):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for index in range(3):
            small = Image.fromarray(draw.integers(0, 256, (6, 8, 3), dtype=np.uint8))
            picture = small.resize((80, 60), Image.Resampling.BICUBIC)
            picture.save(tmp_path / "photos" / label / f"{index}.jpg")
            picture.save(tmp_path / "photo.jpg")
    return tmp_path


def export(name: str) -> None:
    """Run the page's Python with a small network of random weights."""
    (script,) = blocks("python")
    assert PUBLISHED in script
    assert f'"{DINOV3}"' in script
    torch.manual_seed(0)
    script = script.replace(PUBLISHED, SMALL).replace(DINOV3, name)
    with contextlib.redirect_stdout(sys.stderr):
        exec(compile(script, str(PAGE), "exec"), {})


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch):
    """Return a function that runs a command of the page in this process: its exit code."""

    def run(arguments: list[str]) -> int:
        monkeypatch.setattr(sys, "argv", arguments)
        try:
            frame.main()
        except SystemExit as ended:
            return ended.code if isinstance(ended.code, int) else 0
        return 0

    return run


@contextlib.contextmanager
def serving(arguments: list[str]) -> Iterator[str]:
    """Run the page's server on a free port, and yield its address."""
    command = [sys.executable, "-m", "gsp_deploy_cli.main", *arguments, "--port", "0", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            lines = iter(process.stdout.readline, "}\n")
            yield json.loads("".join(lines) + "}")["url"]
        finally:
            process.kill()


def embed(url: str, curl: list[str]) -> dict[str, object]:
    """Send what the page's `curl` sends."""
    name, header = curl[2].removeprefix("@"), curl[4].split(": ")
    asked = urllib.request.Request(f"{url}/embed", Path(name).read_bytes(), dict([header]))
    with urllib.request.urlopen(asked, timeout=60) as reply:
        found: dict[str, object] = json.load(reply)
    return found


@pytest.mark.slow
def test_the_tutorial_runs(place: Path, run) -> None:
    export(DINOV3)
    server, answers = None, []
    for words in commands():
        program, command, *rest = words
        if program == "curl":
            assert server is not None
            with serving(server) as url:
                answers.append(embed(url, words))
        elif command == "serve":
            server = words[1:]
        elif any(word.endswith(".engine") for word in rest):
            # All but the build needs a GPU.
            if command == "build" and "tensorrt-rtx" in installed_flavours():
                assert run([*words, *QUICK["build"]]) == 0
        else:
            allowed = (0, GATE_FAILED) if words[-2:] == ["-o", "model-int8.onnx"] else (0,)
            assert run([*words, *QUICK.get(command, [])]) in allowed, words
    manifest = read_sidecar(place / "model.onnx")
    assert manifest.preprocessing.pipeline == "timm"
    assert manifest.preprocessing.height == 256
    assert (manifest.model.head.KIND, manifest.model.head.normalize) == ("adopted", True)
    with np.load(place / "embeddings.npz") as table:
        assert table["embeddings"].shape == (6, 48)
    (answer,) = answers
    assert len(answer["embeddings"][0]["embedding"]) == 48


@pytest.mark.slow
def test_siglip_is_adopted_too(place: Path, run) -> None:
    export(SIGLIP)
    adopt, fp16 = (
        next(words for words in commands() if words[1] == name) for name in ("adopt", "export")
    )
    assert run([word.replace(DINOV3, SIGLIP) for word in adopt]) == 0
    assert run(fp16) == 0
    manifest = read_sidecar(place / "model.onnx")
    assert (manifest.preprocessing.height, manifest.preprocessing.mean) == (224, (0.5, 0.5, 0.5))
    assert run(["gsp-deploy", "check", "model.onnx", "model-fp16.onnx", "--images", "photos/"]) == 0


def test_the_page_shows_every_step() -> None:
    shown = [words[1] for words in commands() if words[0] == "gsp-deploy"]
    for command in ("adopt", "export", "check", "index", "package", "verify", "serve", "build"):
        assert command in shown

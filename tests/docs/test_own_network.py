"""The tutorial "From your own nn.Module" runs as it is written, on random weights."""

from __future__ import annotations

import re
import runpy
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from PIL import Image

from gsp_deploy_cli import main as frame

PAGE = (Path(__file__).parents[2] / "docs/tutorials/own-network.md").read_text(encoding="utf-8")
FILES = re.findall(r'```python title="(\w+\.py)"\n(.*?)```', PAGE, re.DOTALL)
COMMANDS = re.findall(r"^\$ (.+)$", PAGE, re.MULTILINE)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A reader's folder: the page's files, and some photographs."""
    before, known = list(sys.path), set(sys.modules)
    for name, text in FILES:
        (tmp_path / name).write_text(text)
    draw = np.random.default_rng(0)
    for label in ("robin", "wren"):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for index in range(4):
            pixels = draw.integers(0, 256, (70, 80, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / label / f"{index}.png")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    sys.path[:] = before
    for name, _ in FILES:
        if (module := name.removesuffix(".py")) not in known:
            sys.modules.pop(module, None)


def exit_code() -> object:
    """Run the command line; a command that ends by itself has no code."""
    try:
        frame.main()
    except SystemExit as ended:
        return ended.code or 0
    return 0


@pytest.mark.slow
def test_the_page_runs_from_top_to_bottom(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for line in COMMANDS:
        program, *arguments = shlex.split(line)
        monkeypatch.setattr(sys, "argv", [program, *arguments])
        if program == "python":
            runpy.run_path(arguments[0], run_name="__main__")
            continue
        assert exit_code() == 0, f"{line}: {capsys.readouterr().err}"
    for script in ("export.py", "own_export.py", "adopting.py"):
        runpy.run_path(script, run_name="__main__")
    assert "torch.Size([2, 1000])" in capsys.readouterr().out
    assert len(np.load("embeddings.npz")["embeddings"]) == 8
    images = np.random.default_rng(1).random((2, 3, 64, 64), dtype=np.float32)
    (first, *_), (second, *_) = (
        onnxruntime.InferenceSession(name).run(None, {"images": images})
        for name in ("birds.onnx", "plain.onnx")
    )
    np.testing.assert_allclose(first, second, atol=1e-6)

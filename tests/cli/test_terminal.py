"""What commands print fits 80 columns, and is plain in a pipe and where NO_COLOR is set."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from gsp_deploy.engine.api import installed_flavours
from gsp_deploy_cli.main import COMMANDS, app

SPEC = "glyphs:size=48,images_per_class=2,train_classes=2,test_classes=3"
BRIEF = ("--repeats", "2", "--warmup", "1", "--threads", "1", "--no-memory")
TABLES = {
    "bench": ("bench", "{onnx}", *BRIEF),
    "build": ("build", "{onnx}", "-o", "model.engine", "--target", "sm_86"),
    "check": ("check", "{checkpoint}", "{onnx}", "--images", "photos"),
    "check --layers": ("check", "{onnx}", "{onnx}", "--images", "photos", "--layers"),
    "data list": ("data", "list"),
    "doctor": ("doctor",),
    "embed": ("embed", "{onnx}", "photos", "-o", "gallery.npy"),
    "evaluate": ("evaluate", "{onnx}", "--data", SPEC),
    "explain": ("explain", "{checkpoint}", "photos/0.png", "-o", "maps"),
    "export": ("export", "{checkpoint}", "-o", "model.onnx"),
    "inspect a checkpoint": ("inspect", "{checkpoint}"),
    "inspect an export": ("inspect", "{onnx}"),
}
LONG = "a-model-whose-name-tells-what-it-was-trained-on"
SCRIPT = Path(sys.executable).with_name("gsp-deploy")


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Twelve small photographs in `photos`, in the folder where the commands run."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "photos"
    folder.mkdir()
    draw = np.random.default_rng(0)
    for k in range(12):
        noise = draw.integers(0, 256, (4, 4, 3), dtype=np.uint8)
        Image.fromarray(noise).resize((40, 40)).save(folder / f"{k}.png")
    return folder


def assert_plain(stdout: str, stderr: str) -> None:
    """Assert that no line of a result is too long and that neither stream holds control codes."""
    assert [line for line in stdout.splitlines() if len(line) > 80] == []
    assert "\x1b" not in stdout + stderr
    assert "\r" not in stdout + stderr


@pytest.mark.parametrize("command", TABLES)
def test_results_fit_and_are_plain_in_a_pipe(
    command: str, photos: Path, tiny_checkpoint: Path, tiny_export: str, run_here
) -> None:
    if command == "build" and "tensorrt-rtx" not in installed_flavours():
        pytest.skip("TensorRT-RTX is not installed: its wheels are for x86-64 Linux")
    names = {"checkpoint": f"{LONG}.safetensors", "onnx": f"{LONG}.onnx"}
    Path(names["checkpoint"]).symlink_to(tiny_checkpoint)
    for suffix in ("", ".json"):
        Path(names["onnx"] + suffix).symlink_to(tiny_export + suffix)
    code, out, err = run_here(*(word.format(**names) for word in TABLES[command]))
    assert code in (0, 3), err  # a gate may fail on noise; its table is printed all the same
    assert len(out.splitlines()) > 1
    assert [line for line in out.splitlines() if line != line.rstrip()] == []
    assert_plain(out, err)


def test_galleries_and_bundles_fit_and_are_plain(photos: Path, tiny_export: str, run_here) -> None:
    for arguments in (
        ("index", tiny_export, "photos", "-o", "gallery"),
        ("search", "photos/3.png", "--index", "gallery", "--model", tiny_export, "-k", 3),
        (
            "migrate-check",
            "--gallery",
            "gallery",
            "--old",
            tiny_export,
            "--new",
            tiny_export,
            "--images",
            "photos",
        ),
        ("package", tiny_export, "-o", "bundle"),
        ("verify", "bundle"),
    ):
        code, out, err = run_here(*arguments)
        assert code == 0, err
        assert_plain(out, err)


@pytest.mark.parametrize("command", [command.__name__.replace("_", "-") for command in COMMANDS])
def test_help_fits_and_is_plain(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    shown = CliRunner().invoke(app, [command, "--help"])
    assert shown.exit_code == 0
    assert_plain(shown.stdout, shown.stderr)


def on_a_terminal(*command: object, **environment: str) -> str:
    """Run a command whose output is a pseudo-terminal; return what it wrote."""
    ours, theirs = pty.openpty()
    kept = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "FORCE_COLOR")}
    everything = {**kept, "TERM": "xterm-256color", **environment}
    subprocess.run([*map(str, command)], stdout=theirs, stderr=theirs, env=everything, check=False)
    os.close(theirs)
    written = b""
    try:
        while piece := os.read(ours, 65536):
            written += piece
    except OSError:  # how Linux says that the other end is closed
        pass
    os.close(ours)
    return written.decode()


def test_no_color_is_heeded_on_a_terminal(tiny_export: str) -> None:
    command = (sys.executable, "-m", "gsp_deploy_cli.main", "inspect")
    for arguments in ((tiny_export,), ("--no-such-option",)):
        assert "\x1b[" in on_a_terminal(*command, *arguments)
        assert "\x1b" not in on_a_terminal(*command, *arguments, NO_COLOR="1")


@pytest.mark.skipif(not SCRIPT.exists(), reason="the command is not beside this Python")
def test_bash_completes_commands_and_options() -> None:
    completion = f"""
        eval "$({SCRIPT} --show-completion bash)"
        try() {{
            COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
            _gsp_deploy_completion {SCRIPT}
            echo "${{COMPREPLY[@]}}"
        }}
        try gsp-deploy expo
        try gsp-deploy data ch
        try gsp-deploy export --prec
    """
    command = ["bash", "--norc", "-c", completion]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.stdout.split() == ["export", "check", "--precision"], ran.stderr

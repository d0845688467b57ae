"""build as a command: what is printed, what is written, exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from gsp_deploy.artifact import read_sidecar
from gsp_deploy.artifact.engine_manifest import read_engine_sidecar
from gsp_deploy.engine.api import installed_flavours
from gsp_deploy_cli import main

needs_rtx = pytest.mark.skipif(
    "tensorrt-rtx" not in installed_flavours(),
    reason="TensorRT-RTX is not installed: its wheels are for x86-64 Linux",
)
TARGET = ("--target", "sm_86")


def build(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run the command as a user does, in a process of its own."""
    command = [sys.executable, "-m", "gsp_deploy_cli.main", "build", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)


def told(ran: subprocess.CompletedProcess[str]) -> str:
    """Return the error, which is one line and no traceback."""
    assert ran.stdout == ""
    assert "Traceback" not in ran.stderr
    last = ran.stderr.strip().splitlines()[-1]
    assert last.startswith("error: ")
    return last


@pytest.fixture
def build_here(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Return a function that runs the command in this process: quicker, and enough for refusals."""

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = ["gsp-deploy", "build", *map(str, arguments)]
        monkeypatch.setattr(sys, "argv", command)
        with pytest.raises(SystemExit) as ended:
            main.main()
        found = capsys.readouterr()
        return subprocess.CompletedProcess(command, ended.value.code or 0, found.out, found.err)

    return run


@needs_rtx
def test_an_onnx_becomes_an_engine_and_its_manifest(tiny_export: str, tmp_path: Path) -> None:
    output = tmp_path / "model.engine"
    ran = build(tiny_export, "-o", output, "--target", "sm_86,sm_120", "--batch", "1:2:4")
    assert ran.returncode == 0, ran.stderr
    assert "sm_86, sm_120" in ran.stdout
    assert "(1, 3, 32, 32) to (4, 3, 32, 32), best at (2, 3, 32, 32)" in ran.stdout
    assert "newton, 3 steps" in ran.stdout
    assert "none: measured on" in ran.stdout
    manifest = read_engine_sidecar(output)
    assert manifest is not None
    assert manifest.compute_capabilities == ("8.6", "12.0")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["model.engine", "model.engine.json"]


@needs_rtx
def test_precision_converts_first_and_the_result_is_one_document(
    tiny_export: str, tmp_path: Path
) -> None:
    output, kept = tmp_path / "model.engine", tmp_path / "half.onnx"
    options = ("--precision", "fp16", "--onnx", kept, "--low-memory", "--json")
    ran = build(tiny_export, "-o", output, *TARGET, *options)
    assert ran.returncode == 0, ran.stderr
    document = json.loads(ran.stdout)
    assert (document["document"], document["version"]) == ("build", 1)
    assert document["manifest"]["precision"]["asked"] == "fp16"
    assert document["manifest"]["precision"]["layers"]["float16"] > 0
    assert document["manifest"]["onnx_sha256"] == read_sidecar(kept).sha256
    assert "available_bytes" in document["preflight"]
    assert "converting" in ran.stderr
    assert "memory: " in ran.stderr


@needs_rtx
def test_a_checkpoint_is_exported_on_the_way(tiny_checkpoint: Path, tmp_path: Path) -> None:
    ran = build(tiny_checkpoint, "-o", tmp_path / "m.engine", *TARGET, "--precision", "bf16")
    assert ran.returncode == 0, ran.stderr
    assert "bf16, verified in the network" in ran.stdout


@needs_rtx
def test_an_engine_that_is_there_is_kept_without_force(tiny_export: str, tmp_path: Path) -> None:
    output = tmp_path / "model.engine"
    output.write_bytes(b"mine")
    ran = build(tiny_export, "-o", output, *TARGET, "--force")
    assert ran.returncode == 2
    assert "did not make it" in told(ran)
    assert output.read_bytes() == b"mine"
    output.write_bytes(b"")  # nothing to lose
    ran = build(tiny_export, "-o", output, *TARGET)
    assert ran.returncode == 2
    assert "--force" in told(ran)
    assert build(tiny_export, "-o", output, *TARGET, "--force").returncode == 0
    assert output.stat().st_size > 0


@needs_rtx
@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (("--target", "sm_87"), 2, "Jetson"),
        (("--target", "ada"), 2, "sm_86"),
        (("--batch", "8:4:2", *TARGET), 2, "min <= opt <= max"),
        (("--size", "64", *TARGET), 2, "fixed to 32"),
        (("--workspace", "much", *TARGET), 2, "512M"),
        (("--optimization-level", "9", *TARGET), 2, "0 to 5"),
        (("--version-compatible", *TARGET), 2, "their own version"),
        (("--precision", "int8", *TARGET), 2, "--calibrate"),
        (("--pooling", "plugin", *TARGET), 2, "--plugin PATH"),
        (("--flavour", "tensorrt", *TARGET), 4, "TensorRT is not installed"),
    ],
)
def test_what_cannot_be_is_one_line_and_leaves_nothing(
    options: tuple[str, ...], code: int, words: str, tiny_export: str, tmp_path: Path, build_here
) -> None:
    if "--flavour" in options and "tensorrt" in installed_flavours():
        pytest.skip("TensorRT is installed here")
    ran = build_here(tiny_export, "-o", tmp_path / "model.engine", *options)
    assert (ran.returncode, words in told(ran)) == (code, True), ran.stderr
    assert list(tmp_path.iterdir()) == []


@needs_rtx
@pytest.mark.parametrize(
    ("name", "content", "code", "words"),
    [
        ("gone.onnx", None, 2, "no such file or folder"),
        ("junk.onnx", b"junk", 1, "not a whole ONNX file"),
        ("junk.safetensors", b"junk", 1, "junk.safetensors"),
        ("model.txt", b"", 2, "expected a model ending in .onnx, .safetensors"),
    ],
)
def test_files_that_are_none_are_named(
    name: str, content: bytes | None, code: int, words: str, tmp_path: Path, build_here
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    ran = build_here(path, "-o", tmp_path / "model.engine", *TARGET)
    assert (ran.returncode, words in told(ran)) == (code, True), ran.stderr


@needs_rtx
def test_weights_go_into_plans_that_take_them_only(
    tiny_export: str, tmp_path: Path, build_here
) -> None:
    engine = tmp_path / "model.engine"
    assert build_here(tiny_export, "-o", engine, *TARGET).returncode == 0
    ran = build_here(tiny_export, "-o", tmp_path / "new.engine", "--into", engine)
    assert ran.returncode == 2
    assert "build it with --refit" in told(ran)


@needs_rtx
def test_a_place_that_cannot_be_written_is_told_before_the_build(
    tiny_export: str, tmp_path: Path, build_here
) -> None:
    (tmp_path / "file").write_text("")
    ran = build_here(tiny_export, "-o", tmp_path / "file" / "model.engine", *TARGET)
    assert ran.returncode == 1
    assert "cannot write" in told(ran)


@needs_rtx
def test_float32_where_fp16_is_promised_ends_with_3(
    tiny_export: str, tmp_path: Path, build_here
) -> None:
    """A file whose manifest says fp16 while its graph is float32."""
    source, fake = Path(tiny_export), tmp_path / "fake.onnx"
    fake.write_bytes(source.read_bytes())
    text = source.with_name(source.name + ".json").read_text()
    beside = text.replace('"precision": "fp32"', '"precision": "fp16"')
    assert beside != text
    (tmp_path / "fake.onnx.json").write_text(beside)
    ran = build_here(fake, "-o", tmp_path / "model.engine", *TARGET)
    assert ran.returncode == 3
    assert "fp16 was asked for" in told(ran)
    assert not (tmp_path / "model.engine").exists()

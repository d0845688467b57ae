"""A path to read that is not there ends every command alike: exit code 2, one line, one wording."""

from __future__ import annotations

import os
from inspect import signature
from pathlib import Path
from typing import get_args

import pytest

from gsp_deploy.errors import UsageError
from gsp_deploy_cli.main import COMMANDS
from gsp_deploy_cli.options.groups import unfolded
from gsp_deploy_cli.options.inputs import existing_file, existing_images, existing_path

GLYPHS = "glyphs:size=32"
# Every way to name something to read: {gone} is missing, {model} and {folder} are there.
NAMED = (
    "train glyphs-quick --data folder:{gone}",
    "train glyphs-quick --set data.spec=cub:{gone}",
    f"evaluate {{gone}} --data {GLYPHS}",
    f"evaluate {{model}} {{gone}} --data {GLYPHS}",
    "evaluate {model} --data cub:{gone}",
    f"evaluate {{model}} --data {GLYPHS} --plugin {{gone}}",
    "export {gone} -o out.onnx",
    "export --from {gone} --pooling plugin -o out.onnx",
    "export {model} -o out.onnx --calibrate {gone}",
    "export {model} -o out.onnx --precision int8 --validate folder:{gone}",
    "convert {gone} -o out.safetensors",
    "build {gone} -o out.engine",
    "build {model} -o out.engine --plugin {gone}",
    "build {model} -o out.engine --into {gone}",
    f"tune {{gone}} --data {GLYPHS}",
    "tune {model} --data csv:{gone}",
    f"tune {{model}} --data {GLYPHS} --calibrate {{gone}}",
    "check {gone} {model} --images {folder}",
    "check {model} {gone} --images {folder}",
    "check {model} {model} --images {folder} --images {gone}",
    "check {model} {model} --images {folder} --plugin {gone}",
    "bench {model} {gone}",
    "bench {model} --image {gone}",
    "bench {model} --compare {gone}",
    "bench {model} --plugin {gone}",
    "embed {gone} {folder} -o out.npy",
    "embed {model} {folder} {gone} -o out.npy",
    "embed {model} {folder} -o out.npy --plugin {gone}",
    "explain {gone} {folder} -o out",
    "explain {model} {gone} -o out",
    "explain {model} {folder} -o out --plugin {gone}",
    "inspect {gone}",
    "doctor --plugin {gone}",
    "doctor --selftest --full --lab {gone}",
    "doctor --selftest --full --tests {gone}",
    "doctor --selftest --full --model {gone}",
    "package {gone} -o out",
    "package {model} -o out --onnx {gone}",
    "package {model} -o out --plugin {gone}",
    "package {model} -o out --images {gone}",
    "package {model} -o out --license {gone}",
    "verify {gone}",
    "serve {gone}",
    "serve {model} --plugin {gone}",
    "index {gone} {folder} -o out",
    "index {model} {gone} -o out",
    "index {model} {folder} -o out --plugin {gone}",
    "search {gone} --index {folder} --model {model}",
    "search {folder} --index {gone} --model {model}",
    "search {folder} --index {folder} --model {gone}",
    "search {folder} --index {folder} --model {model} --plugin {gone}",
    "report {folder} {gone} -o out.html",
    "report {folder} -o out.html --reference {gone} --model {model} --images {folder}",
    "report {folder} -o out.html --reference {model} --model {gone} --images {folder}",
    "report {folder} -o out.html --reference {model} --model {model} --images {gone}",
    "data check cub:{gone}",
    "data preview csv:{gone} -o out.png",
    "data write folder:{gone} -o out",
)
# Paths that are written; and a recipe, which may be the name of one that ships.
NOT_READ = {
    "output", "target", "folder", "sheet", "save", "markdown", "timing_cache", "model_cache",
    "recipe",
}  # fmt: skip
WRITTEN = {("build", "onnx")}


@pytest.mark.parametrize("command", NAMED)
def test_a_missing_path_is_a_usage_error_in_one_wording(
    command: str, tiny_checkpoint: Path, tmp_path: Path, monkeypatch, run_here
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").mkdir()
    places = {"gone": "gone.onnx", "model": tiny_checkpoint, "folder": "here"}
    outcome = run_here(*(word.format(**places) for word in command.split()))
    assert outcome == (2, "", "error: gone.onnx: no such file or folder\n")
    assert [path.name for path in tmp_path.iterdir()] == ["here"]


# Where a file is read: the others search folders, which pipes are passed over in.
SEARCHED = ("folder:", "cub:", "csv:", "--calibrate {gone}")


@pytest.mark.parametrize("command", [c for c in NAMED if not any(w in c for w in SEARCHED)])
def test_a_pipe_is_refused_before_it_is_opened(
    command: str, tiny_checkpoint: Path, tmp_path: Path, monkeypatch, run_here
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").mkdir()
    os.mkfifo(tmp_path / "gone.onnx")
    places = {"gone": "gone.onnx", "model": tiny_checkpoint, "folder": "here"}
    outcome = run_here(*(word.format(**places) for word in command.split()))
    said = "error: gone.onnx: expected a regular file, got a pipe\n"
    assert outcome == (2, "", said)


@pytest.mark.parametrize(
    "command", COMMANDS, ids=lambda command: command.__name__.replace("_", "-")
)
def test_every_path_that_is_read_is_looked_at_first(command) -> None:
    name = command.__name__.replace("_", "-")
    for parameter in signature(unfolded(command)).parameters.values():
        kind, *told = get_args(parameter.annotation) or (parameter.annotation,)
        if "Path" in str(kind) and parameter.name not in NOT_READ:
            assert told[0].callback or (name, parameter.name) in WRITTEN, parameter.name


@pytest.mark.parametrize(
    ("refuse", "said"),
    [
        (lambda folder: existing_file(folder / "a file" / "below"), "Not a directory"),
        (lambda folder: existing_path(folder / ("n" * 300)), "File name too long"),
        (lambda folder: existing_path(folder / "circle"), "Too many levels of symbolic links"),
        (lambda folder: existing_file(folder), "expected a file, and this is a folder"),
        (lambda folder: existing_file([folder / "a file", folder / "none"]), "no such file"),
        (lambda folder: existing_images([f"{folder}/none"]), "no such file or folder"),
    ],
    ids=["below a file", "too long", "circle", "folder", "second", "image"],
)
def test_why_a_path_cannot_be_read_is_told(refuse, said: str, tmp_path: Path) -> None:
    (tmp_path / "a file").touch()
    (tmp_path / "circle").symlink_to("circle")
    with pytest.raises(UsageError, match=said):
        refuse(tmp_path)


@pytest.mark.parametrize("name", ["a file", "a folder"])
def test_what_may_not_be_read_is_a_usage_error(name: str, tmp_path: Path, monkeypatch) -> None:
    """The system's answer is put into its mouth: root may read everything."""
    (tmp_path / "a file").touch()
    (tmp_path / "a folder").mkdir()
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(UsageError, match=f"{name}: cannot be read: Permission denied"):
        existing_path(tmp_path / name)


def test_what_is_there_and_what_is_not_given_pass(tmp_path: Path) -> None:
    file = tmp_path / "[1] file"
    file.touch()
    pattern = str(tmp_path / "*.png")
    assert existing_file(file) == file
    assert existing_file(None) is None
    assert existing_images([str(file), pattern]) == [str(file), pattern]

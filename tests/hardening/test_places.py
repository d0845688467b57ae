"""Outputs that cannot be written: on a disk that is really full, and in another user's folder."""

from __future__ import annotations

import contextlib
import os
import pickle
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from .test_signals import run_in_child
from .workshop import Ran, contents, run_here

NOBODY = 65534
COMMANDS = {
    "embed": "embed|@model.onnx|@images/names|-o|>t.npy|--force",
    "embed, a data set": "embed|@model.onnx|@images/names|-o|>out|--workers|1",
    "export": "export|@model.safetensors|-o|>m.onnx|--force|--iterations|2",
    "package": "package|@model.onnx|-o|>bundle",
    "explain": "explain|@model.safetensors|@images/names/plain.png|-o|>maps",
    "index": "index|@model.onnx|@images/names|-o|>index",
    "train": "train|@recipe.toml|-o|>run",
    "report": "report|@model.onnx.json|-o|>r.html",
}


def words(command: str, workshop: Path, output: Path) -> list[str]:
    return [
        str(workshop / word[1:]) if word[0] == "@" else word.replace(">", f"{output}/")
        for word in COMMANDS[command].split("|")
    ]


def assert_refused(ran: Ran, said: str) -> None:
    assert ran.leaked is None
    assert ran.code == 1, ran
    assert said in ran.error
    assert sum(line.startswith("error: ") for line in ran.err.splitlines()) == 1


@pytest.fixture(scope="module")
def full_disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A file system of 64 kB without a free byte, and two old files on it."""
    folder = tmp_path_factory.mktemp("full")
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("needs root and the right to mount a small file system")
    try:
        for name in ("t.npy", "m.onnx"):
            (folder / name).write_text("")
        with contextlib.suppress(OSError), open(folder / "filler", "wb", buffering=0) as stream:
            while stream.write(bytes(512)):
                pass
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture(scope="module")
def open_place(workshop: Path) -> Iterator[Path]:
    """A copy of the workshop that others may read, with a folder `notes` that they may write."""
    place = Path(tempfile.mkdtemp())
    try:
        shutil.copytree(workshop, place, dirs_exist_ok=True)
        recipe = place / "recipe.toml"
        recipe.write_text(recipe.read_text().replace(str(workshop), str(place)))
        (place / "notes").mkdir()
        (place / "output").mkdir()
        place.chmod(0o755)
        (place / "notes").chmod(0o777)
        (place / "output").chmod(0o555)
        yield place
    finally:
        (place / "output").chmod(0o755)
        shutil.rmtree(place)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_full_disk(command: str, workshop: Path, full_disk: Path, tried) -> None:
    before = contents(full_disk)
    ran = run_here(*words(command, workshop, full_disk))
    assert_refused(ran, "No space left on device")
    assert contents(full_disk) == before
    tried("A full disk", command, f"{ran.code}: {ran.error}".replace(str(full_disk), ">"))


@pytest.mark.parametrize("command", COMMANDS)
def test_a_folder_of_somebody_else(command: str, open_place: Path, tried) -> None:
    output, note = open_place / "output", open_place / "notes" / command
    assert run_in_child(words(command, open_place, output), note, become_nobody) == 0
    ran: Ran = pickle.loads(note.read_bytes())
    assert_refused(ran, "Permission denied")
    assert not contents(output)
    outcome = f"{ran.code}: {ran.error}".replace(str(open_place), "@")
    tried("An output folder without write permission", command, outcome)


@pytest.mark.parametrize("suffix", [".onnx", ".safetensors", ".pt"])
@pytest.mark.parametrize("command", ["embed", "inspect"])
def test_a_model_of_somebody_else(command: str, suffix: str, open_place: Path, tried) -> None:
    model, note = open_place / f"model{suffix}", open_place / "notes" / f"{command}{suffix}"
    image, table = open_place / "images" / "names" / "plain.png", open_place / "notes" / "t.npy"
    more = [str(image), "-o", str(table)] if command == "embed" else []
    mode = model.stat().st_mode
    model.chmod(0)
    try:
        assert run_in_child([command, str(model), *more], note, become_nobody) == 0
    finally:
        model.chmod(mode)
    ran: Ran = pickle.loads(note.read_bytes())
    assert ran.leaked is None
    assert (ran.code, ran.out) == (2, "")
    assert ran.err == f"error: {model}: cannot be read: Permission denied\n"
    outcome = f"{ran.code}: {ran.error}".replace(str(open_place), "@")
    tried("A model without read permission", f"{command} model{suffix}", outcome)


def become_nobody() -> None:
    """Drop root's rights, because permissions do not apply to root."""
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)

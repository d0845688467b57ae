"""Several files are moved together, even if the process ends between two moves."""

from __future__ import annotations

import errno
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from gsp_deploy.base import moves
from gsp_deploy.base.files import replacing_together, write_text
from gsp_deploy.base.folders import new_folder
from gsp_deploy.base.scratch import settle
from gsp_deploy.errors import GspDeployError

NAMES = ("data", "m.json", "m.onnx")
OLD = {"m.json": "old m.json", "m.onnx": "old m.onnx", "beside": "old beside"}
NEW = {name: f"new {name}" for name in NAMES}


def contents(folder: Path) -> dict[str, str]:
    """Return all files, hidden ones too."""
    return {
        path.relative_to(folder).as_posix(): path.read_text()
        for path in folder.rglob("*")
        if path.is_file()
    }


def visible(folder: Path) -> dict[str, str]:
    return {name: text for name, text in contents(folder).items() if not name.startswith(".")}


def write_files(folder: Path) -> None:
    with replacing_together(*(folder / name for name in NAMES)) as fresh:
        for path in fresh:
            path.write_text(NEW[path.name])


def write_folder(folder: Path) -> None:
    with new_folder(folder / "b", force=True, known_by="mark") as fresh:
        (fresh / "mark").write_text("new mark")


def killed(write: Callable[[Path], None], folder: Path, at: int, prepare: Callable = int) -> bool:
    """Run in a fork that SIGKILL ends before its `at`-th rename or removal; False if it ends."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            prepare()
            left = iter(range(at))

            def kill(*_: object, really: Callable[..., None], **__: object) -> None:
                if next(left, None) is None:
                    os.kill(os.getpid(), signal.SIGKILL)
                really(*_, **__)

            for name in ("replace", "unlink", "rmdir", "mkdir"):
                really = getattr(os, name)
                setattr(os, name, lambda *a, really=really, **k: kill(*a, really=really, **k))
            write(folder)
            code = 0
        finally:
            os._exit(code)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, -signal.SIGKILL)
    return status != 0


def test_files_killed_before_any_change_are_of_one_run(tmp_path: Path) -> None:
    new = {**NEW, "beside": "old beside"}
    at, seen = 0, set()
    while True:
        folder = tmp_path / str(at)
        folder.mkdir()
        for name, text in OLD.items():
            (folder / name).write_text(text)
        if not killed(write_files, folder, at):
            break
        found = visible(folder)
        if "m.onnx" in found:  # else it is away, which nobody takes for a model
            assert found in (OLD, new)
        settle(folder / "m.onnx")
        assert visible(folder) in (OLD, new)
        seen.add(tuple(visible(folder).values()))
        write_files(folder)
        assert contents(folder) == new
        at += 1
    assert at > 8
    assert len(seen) == 2


@pytest.mark.parametrize("can_exchange", [True, False])
def test_a_folder_killed_before_any_change_is_never_lost(
    can_exchange: bool, tmp_path: Path
) -> None:
    def prepare() -> None:
        if not can_exchange:
            moves._exchange = lambda one, other: False

    old, new = {"b/mark": "old mark", "b/more": "old more"}, {"b/mark": "new mark"}
    at = 0
    while True:
        folder = tmp_path / str(at)
        (folder / "b").mkdir(parents=True)
        for name, text in old.items():
            (folder / name).write_text(text)
        if not killed(write_folder, folder, at, prepare):
            break
        if can_exchange:
            assert visible(folder) in (old, new)
        settle(folder / "b")
        assert visible(folder) in (old, new)
        write_folder(folder)
        assert contents(folder) == new
        at += 1
    assert at > 3


@pytest.mark.parametrize("fails_at", range(1, 7))
def test_killed_while_moving_back(
    fails_at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A move fails, and then the process is killed while it brings the old files back."""
    at = 0
    while True:
        folder = tmp_path / str(at)
        folder.mkdir()
        for name, text in OLD.items():
            (folder / name).write_text(text)

        def prepare() -> None:
            real, calls = os.replace, iter(range(1, 100))

            def fail(source: Path, target: Path) -> None:
                if next(calls) == fails_at:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                real(source, target)

            os.replace = fail

        def write(folder: Path) -> None:
            with pytest.raises(GspDeployError, match="No space"):
                write_files(folder)

        if not killed(write, folder, at, prepare):
            assert contents(folder) == OLD
            break
        settle(folder / "m.onnx")
        assert visible(folder) in (OLD, {**NEW, "beside": "old beside"})
        at += 1


def left_behind(folder: Path, names: list[str]) -> Path:
    """Return the scratch folder of a run that was killed between two moves."""
    place = folder / ".m.onnx.abcdefgh"
    (place / "files").mkdir(parents=True)
    (place / "lock").touch()
    for name in names:
        (place / "files" / os.path.basename(name)).write_text("new")
    entries = [{"name": name, "replaces": True} for name in names]
    (place / "forward").write_text(json.dumps(entries))
    return place


@pytest.mark.parametrize("name", ["../m.onnx", "/etc/m.onnx", "..", "a/m.onnx", ""])
def test_a_journal_that_leads_elsewhere_is_none(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "here"
    folder.mkdir()
    (tmp_path / "m.onnx").write_text("mine")
    place = left_behind(folder, ["x"])
    (place / "forward").write_text(json.dumps([{"name": name, "replaces": True}]))
    settle(folder / "m.onnx")
    assert (tmp_path / "m.onnx").read_text() == "mine"
    assert visible(folder) == {}


@pytest.mark.parametrize("text", ["", "{}", "[1]", '[{"name": 1}]', "[" * 10_000, "\xff"])
def test_a_journal_that_is_damaged_changes_nothing(text: str, tmp_path: Path) -> None:
    place = left_behind(tmp_path, ["m.onnx"])
    (place / "forward").write_text(text)
    settle(tmp_path / "m.onnx")
    assert visible(tmp_path) == {}
    write_text(tmp_path / "m.onnx", "whole")
    assert contents(tmp_path) == {"m.onnx": "whole"}


def test_another_users_journal_is_not_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "m.onnx").write_text("mine")
    left_behind(tmp_path, ["m.onnx"])
    monkeypatch.setattr("gsp_deploy.base.scratch._USER", os.geteuid() + 1)
    settle(tmp_path / "m.onnx")
    assert (tmp_path / "m.onnx").read_text() == "mine"
    monkeypatch.undo()
    settle(tmp_path / "m.onnx")
    assert contents(tmp_path) == {"m.onnx": "new"}

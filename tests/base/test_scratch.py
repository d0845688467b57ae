"""The next run removes what killed runs left beside an output, and nothing else."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import tempfile
from pathlib import Path
from typing import TextIO

import pytest

from gsp_deploy.base.files import replacing, write_text
from gsp_deploy.base.scratch import remove_left_behind, scratch_beside
from gsp_deploy.errors import OutputError


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def killed_while_writing(target: Path) -> Path:
    """Return the folder that a writer of `target` leaves who is killed for good."""
    before, child = names(target.parent), os.fork()
    if child == 0:
        with replacing(target) as temporary:
            temporary.write_text("half")
            os.kill(os.getpid(), signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    (left,) = names(target.parent) - before
    return target.parent / left


def test_the_next_run_removes_what_killed_ones_left(tmp_path: Path) -> None:
    target = tmp_path / "with [brackets] ü.txt"
    left = {killed_while_writing(target).name for _ in range(3)}
    assert len(left) == 3
    assert names(tmp_path) == left
    write_text(target, "whole")
    assert names(tmp_path) == {target.name}


def test_what_a_run_left_that_was_killed_while_tidying_up(tmp_path: Path) -> None:
    left = killed_while_writing(tmp_path / "m.onnx")
    shutil.rmtree(left / "files")
    write_text(tmp_path / "m.onnx", "whole")
    assert names(tmp_path) == {"m.onnx"}


def test_ctrl_c_while_tidying_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    remove, interrupts = shutil.rmtree, iter([KeyboardInterrupt])

    def interrupted(*arguments: object, **options: object) -> None:
        for interrupt in interrupts:
            raise interrupt
        remove(*arguments, **options)

    monkeypatch.setattr(shutil, "rmtree", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_text(tmp_path / "m.onnx", "whole")
    assert names(tmp_path) == {"m.onnx"}


def test_a_folder_that_is_swept_before_it_is_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, swept = fcntl.flock, []

    def late(stream: TextIO, how: int) -> None:
        if not swept:
            swept.append(Path(stream.name).parent)
            shutil.rmtree(swept[0])
        lock(stream, how)

    monkeypatch.setattr(fcntl, "flock", late)
    write_text(tmp_path / "m.onnx", "whole")
    assert swept
    assert names(tmp_path) == {"m.onnx"}


def test_a_folder_that_is_swept_before_it_has_a_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, swept = tempfile.mkdtemp, []

    def late(prefix: str, dir: Path) -> str:
        made = make(prefix=prefix, dir=dir)
        if not swept:
            swept.append(made)
            remove_left_behind(tmp_path / "m.onnx")
        return made

    monkeypatch.setattr("gsp_deploy.base.scratch.tempfile.mkdtemp", late)
    with scratch_beside(tmp_path / "m.onnx") as ours:
        assert not Path(swept[0]).exists()
        (ours / "m.onnx").write_text("whole")
    assert names(tmp_path) == set()


def test_a_folder_whose_owner_died_before_it_held_anything_goes(tmp_path: Path) -> None:
    (tmp_path / ".m.onnx.abcdefgh").mkdir()
    write_text(tmp_path / "m.onnx", "whole")
    assert names(tmp_path) == {"m.onnx"}


def test_a_run_that_fails_leaves_them_for_it_has_made_nothing(tmp_path: Path) -> None:
    target = tmp_path / "m.onnx"
    left = killed_while_writing(target)
    with pytest.raises(ZeroDivisionError), scratch_beside(target):
        raise ZeroDivisionError
    assert names(tmp_path) == {left.name}


def test_the_folder_of_a_living_run_stays(tmp_path: Path) -> None:
    target = tmp_path / "m.onnx"
    with scratch_beside(target) as ours:
        (ours / "m.onnx").write_text("half")
        child = os.fork()
        if child == 0:
            write_text(target, "another's")
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        write_text(target, "this process's")
        assert (ours / "m.onnx").read_text() == "half"
        assert target.read_text() == "this process's"
    assert names(tmp_path) == {target.name}


def test_what_belongs_to_another_output_stays(tmp_path: Path) -> None:
    left = killed_while_writing(tmp_path / "m.onnx.json")
    write_text(tmp_path / "m.onnx", "whole")
    write_text(tmp_path / "m", "whole")
    assert left.is_dir()


@pytest.mark.parametrize("kind", ["no lock", "one more", "a link", "a file"])
def test_what_only_looks_like_ours_stays(kind: str, tmp_path: Path) -> None:
    place, elsewhere = tmp_path / "here" / ".m.onnx.abcdefgh", tmp_path / "elsewhere"
    for folder in (place, elsewhere):
        (folder / "files").mkdir(parents=True)
        (folder / "lock").touch()
    match kind:
        case "no lock":
            (place / "lock").unlink()
        case "one more":
            (place / "diary").touch()
        case _:
            (place / "lock").unlink()
            (place / "files").rmdir()
    if kind in ("a link", "a file"):
        place.rmdir()
    if kind == "a link":
        place.symlink_to(elsewhere)
    elif kind == "a file":
        place.touch()
    before = sorted(path for path in tmp_path.rglob("*"))
    remove_left_behind(tmp_path / "here" / "m.onnx")
    assert sorted(path for path in tmp_path.rglob("*")) == before


def test_what_cannot_be_written_in_the_folder_names_the_output(tmp_path: Path) -> None:
    target, elsewhere = tmp_path / "bundle", tmp_path / "log.txt"
    refused = pytest.raises(OutputError, match=f"cannot write {target}: full;")
    with refused, scratch_beside(target) as folder, scratch_beside(folder / "m.onnx"):
        raise OSError("full")
    refused = pytest.raises(OutputError, match=f"cannot write {elsewhere}: full;")
    with refused, scratch_beside(target):
        raise OutputError(elsewhere, "full")
    assert list(tmp_path.iterdir()) == []

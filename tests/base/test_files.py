"""Files appear whole or not at all, alone and together."""

from __future__ import annotations

import errno
import hashlib
import os
import resource
import signal
from pathlib import Path

import pytest

from gsp_deploy.base.files import (
    refuse_overwrite,
    replacing,
    replacing_together,
    sha256_of,
    write_text,
)
from gsp_deploy.errors import GspDeployError, UsageError


def contents(folder: Path) -> dict[str, str]:
    """Return everything in a folder, including hidden leftovers."""
    return {p.name: p.read_text() if p.is_file() else "folder" for p in folder.iterdir()}


class FailingReplace:
    """`os.replace` that fails as on a full disk, from the given call on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, fails_at: int) -> None:
        self.real, self.calls, self.fails_at = os.replace, 0, fails_at
        monkeypatch.setattr(os, "replace", self)

    def __call__(self, source: Path, target: Path) -> None:
        self.calls += 1
        if self.calls == self.fails_at:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.real(source, target)


def test_a_file_and_its_folders_are_made(tmp_path: Path) -> None:
    write_text(tmp_path / "a" / "b" / "file.txt", "naïve\n")
    assert (tmp_path / "a" / "b" / "file.txt").read_bytes() == "naïve\n".encode()
    assert contents(tmp_path / "a" / "b") == {"file.txt": "naïve\n"}


def test_the_old_file_is_there_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    path.write_text("old")
    with replacing(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
        assert temporary.name == path.name
    assert contents(tmp_path) == {"file.txt": "new"}


@pytest.mark.parametrize("error", [RuntimeError("x"), KeyboardInterrupt(), GspDeployError("x")])
def test_an_error_inside_leaves_the_old_file_and_no_other(
    error: BaseException, tmp_path: Path
) -> None:
    def write() -> None:
        with replacing(path) as temporary:
            temporary.write_text("half")
            raise error

    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(type(error)):
        write()
    assert contents(tmp_path) == {"file.txt": "old"}


@pytest.mark.parametrize("function", ["fsync", "replace"])
def test_a_full_disk_leaves_the_old_file_and_no_other(
    function: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    path = tmp_path / "file.txt"
    path.write_text("old")
    monkeypatch.setattr(os, function, fail)
    with pytest.raises(GspDeployError, match=r"file\.txt: No space left on device; nothing"):
        write_text(path, "new")
    assert contents(tmp_path) == {"file.txt": "old"}


def test_a_write_that_really_fails(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    path.write_text("old")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(GspDeployError, match="File too large"):
            write_text(path, "x" * 10_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert contents(tmp_path) == {"file.txt": "old"}


@pytest.mark.parametrize("where", ["blocked/file.txt", "folder"])
def test_places_that_cannot_be_written(where: str, tmp_path: Path) -> None:
    (tmp_path / "blocked").write_text("a file, no folder")
    (tmp_path / "folder").mkdir()
    with pytest.raises(GspDeployError, match="cannot write"):
        write_text(tmp_path / where, "new")
    assert contents(tmp_path) == {"blocked": "a file, no folder", "folder": "folder"}


def test_a_block_that_writes_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(GspDeployError, match="No such file"), replacing(tmp_path / "file.txt"):
        pass
    assert contents(tmp_path) == {}


def test_files_together_are_moved_together(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("old a")
    with replacing_together(tmp_path / "a", tmp_path / "b") as (a, b):
        assert a.parent == b.parent
        a.write_text("new a")
        b.write_text("new b")
        assert contents(tmp_path)["a"] == "old a"
    assert contents(tmp_path) == {"a": "new a", "b": "new b"}


@pytest.mark.parametrize("fails_at", [1, 2, 3, 4, 5, 6])
def test_a_failure_between_two_moves_brings_everything_back(
    fails_at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {"a": "old a", "b": "old b", "d": "old d"}
    for name, text in before.items():
        (tmp_path / name).write_text(text)
    replace = FailingReplace(monkeypatch, fails_at)
    paths = [tmp_path / name for name in "abcd"]
    outcome = pytest.raises(GspDeployError, match="No space left")
    with outcome, replacing_together(*paths) as fresh:
        for path in fresh:
            path.write_text(f"new {path.name}")
    assert replace.calls >= fails_at
    assert contents(tmp_path) == before


def test_hashes_are_those_of_the_bytes(tmp_path: Path) -> None:
    data = os.urandom((1 << 20) + 17)
    (tmp_path / "x").write_bytes(data)
    assert sha256_of(tmp_path / "x") == hashlib.sha256(data).hexdigest()


def test_overwriting_wants_force(tmp_path: Path) -> None:
    path = tmp_path / "x"
    refuse_overwrite(path, force=False)
    path.touch()
    refuse_overwrite(path, force=True)
    with pytest.raises(UsageError, match="--force"):
        refuse_overwrite(path, force=False)

"""The hashes of a bundle's files: what is listed, in which form, and which fault is named."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from gsp_deploy.artifact.identity import SUMS_NAME
from gsp_deploy.bundle.files import copy_file, foreign_file, misfit, write_sums
from gsp_deploy.errors import ModelFileError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two files in a folder below, one of the same content above, and their sums."""
    made = tmp_path / "made"
    for name, content in (("b", "1"), ("a/c", "2"), ("a/b", "1"), ("bundle.json", "{}")):
        (made / name).parent.mkdir(parents=True, exist_ok=True)
        (made / name).write_text(content)
    write_sums(made)
    return made


def test_the_sums_are_those_of_sha256sum(folder: Path) -> None:
    lines = (folder / SUMS_NAME).read_text().splitlines()
    expected = {"a/b": b"1", "a/c": b"2", "b": b"1", "bundle.json": b"{}"}
    assert lines == [f"{hashlib.sha256(data).hexdigest()}  {name}" for name, data in
                     expected.items()]  # fmt: skip
    write_sums(folder)
    assert (folder / SUMS_NAME).read_text().splitlines() == lines
    assert misfit(folder) is None
    assert foreign_file(folder) is None


def test_the_first_fault_is_named(folder: Path) -> None:
    (folder / "a" / "more").touch()
    assert misfit(folder) == f"a/more is not in {SUMS_NAME}"
    assert foreign_file(folder) == "a/more"
    (folder / "b").unlink()
    assert misfit(folder) == "b is missing, or no plain file"
    (folder / "a" / "c").write_text("3")
    assert misfit(folder) == "a/c is not the file that was packaged (its SHA-256 differs)"
    (folder / "a" / "0").symlink_to(folder)
    assert misfit(folder) == "a/0 is a link to a folder, which a bundle must not hold"


def test_without_sums_the_manifest_alone_is_known(folder: Path) -> None:
    (folder / SUMS_NAME).unlink()
    assert foreign_file(folder) == "a/b"
    with pytest.raises(ModelFileError, match=f"{SUMS_NAME} cannot be read; is this a bundle?"):
        misfit(folder)
    for name in ("a/b", "a/c", "b"):
        (folder / name).unlink()
    assert foreign_file(folder) is None


HASH = "0" * 64


@pytest.mark.parametrize(
    "line",
    [
        "",
        "b",
        HASH,
        f"{HASH} b",
        f"{HASH}  ",
        f"{HASH} *b",
        f"{HASH}\t b",
        f"{HASH[1:]}  b",
        f"{HASH}0  b",
    ],
)
def test_a_line_of_another_form_is_refused(line: str, folder: Path) -> None:
    good = (folder / SUMS_NAME).read_text()
    (folder / SUMS_NAME).write_text(f"{good}{line}\n")
    with pytest.raises(ModelFileError, match="expected lines of a hash and a name"):
        misfit(folder)


def test_sums_that_are_no_text_are_refused(folder: Path) -> None:
    (folder / SUMS_NAME).write_bytes(b"\xff\xfe")
    with pytest.raises(ModelFileError, match="cannot be read"):
        misfit(folder)


def test_a_copy_has_the_contents_and_one_mode(folder: Path, tmp_path: Path) -> None:
    (folder / "b").chmod(0o700)
    copy_file(folder / "b", tmp_path / "deep" / "er" / "b")
    copy_file(folder / "b", tmp_path / "deep" / "er" / "c")  # the folder is there now
    copied = tmp_path / "deep" / "er" / "b"
    assert (copied.read_text(), os.stat(copied).st_mode & 0o777) == ("1", 0o644)

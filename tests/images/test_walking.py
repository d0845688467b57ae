"""The walk through folders of images: its order, its links, and its counts."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gsp_deploy.errors import DataError
from gsp_deploy.images.files import find_images
from gsp_deploy.images.walking import walk_images

SUFFIXES = {".png", ".jpg"}


def put(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")


def found(root: Path) -> list[str]:
    return [file.relative_to(root).as_posix() for file in walk_images(root, SUFFIXES).files]


def test_files_are_sorted_by_the_parts_of_their_paths(tmp_path: Path) -> None:
    put(tmp_path, "b.png", "a/z.png", "a-b/y.PNG", "B/1.jpg", "a/b/c.png", "a.png")
    assert found(tmp_path) == ["B/1.jpg", "a/b/c.png", "a/z.png", "a-b/y.PNG", "a.png", "b.png"]


def test_what_is_passed_over_is_counted_in_one_line(tmp_path: Path) -> None:
    put(tmp_path, "1.png", "a.txt", "b.TXT", "c.heic", "Makefile", ".DS_Store", "._1.png")
    put(tmp_path, "x/@eaDir/1.png", "y/@EADIR/1.png", ".git/1.png")
    assert found(tmp_path) == ["1.png"]
    assert str(walk_images(tmp_path, SUFFIXES).passed_over) == (
        "passed over 6 files: 2 .txt, 2 hidden, 1 .heic, 1 without a suffix; "
        "3 folders: 1 .git, 1 @EADIR, 1 @eaDir"
    )


def test_nothing_is_said_where_nothing_is_passed_over(tmp_path: Path) -> None:
    put(tmp_path, "1.png")
    assert str(walk_images(tmp_path, SUFFIXES).passed_over) == ""


def test_a_real_folder_comes_before_a_link_to_it(tmp_path: Path) -> None:
    put(tmp_path, "z/deep/1.png")
    (tmp_path / "a").symlink_to(tmp_path / "z")
    (tmp_path / "b").symlink_to(tmp_path / "z" / "deep")
    assert found(tmp_path) == ["z/deep/1.png"]
    assert str(walk_images(tmp_path, SUFFIXES).passed_over) == (
        "passed over 2 links to folders that were searched already"
    )


def test_cycles_of_links_end_and_folders_outside_are_followed_once(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    put(root, "a/1.png")
    put(outside, "2.png", "sub/3.png")
    (root / "first").symlink_to(outside)
    (root / "second").symlink_to(outside)
    (outside / "back").symlink_to(root)
    (root / "a" / "self").symlink_to(root / "a")
    assert found(root) == ["a/1.png", "first/2.png", "first/sub/3.png"]


def test_pipes_and_broken_links_are_no_images(tmp_path: Path) -> None:
    put(tmp_path, "1.png")
    os.mkfifo(tmp_path / "2.png")
    (tmp_path / "3.png").symlink_to(tmp_path / "absent.png")
    assert found(tmp_path) == ["1.png"]
    assert "2 broken links or no regular files" in str(walk_images(tmp_path, SUFFIXES).passed_over)


def test_the_folder_that_is_named_is_entered_even_if_it_is_hidden(tmp_path: Path) -> None:
    put(tmp_path, ".hidden/1.png")
    assert found(tmp_path / ".hidden") == ["1.png"]


def test_a_folder_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="absent: cannot be searched for images: No such file"):
        walk_images(tmp_path / "absent", SUFFIXES)


def test_folders_and_patterns_are_counted_together(tmp_path: Path) -> None:
    put(tmp_path, "a/1.png", "a/2.txt", "b/3.png", "b/4.txt", "b/5.csv")
    notes: list[str] = []
    files = find_images([tmp_path / "a", f"{tmp_path}/b/*"], notes.append)
    assert [file.name for file in files] == ["1.png", "3.png"]
    assert notes == ["passed over 3 files: 2 .txt, 1 .csv"]


def test_a_link_to_itself_is_counted(tmp_path: Path) -> None:
    put(tmp_path, "1.png")
    (tmp_path / "2.png").symlink_to(tmp_path / "2.png")
    assert found(tmp_path) == ["1.png"]
    assert "1 broken links or no regular files" in str(walk_images(tmp_path, SUFFIXES).passed_over)

"""Glob patterns: what a wildcard matches, in which order, and what it passes over."""

from __future__ import annotations

from pathlib import Path

import pytest

from gsp_deploy.errors import DataError
from gsp_deploy.images.files import find_images


def put(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def found(root: Path, pattern: str) -> tuple[list[str], list[str]]:
    """Return the files below the root, and what was said."""
    notes: list[str] = []
    files = find_images([f"{root}/{pattern}"], notes.append)
    return [file.relative_to(root).as_posix() for file in files], notes


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    put(tmp_path, "a/1.png", "a/._1.png", "a/@eaDir/1.png/small.png", "a/.ipynb_checkpoints/1.png")
    put(tmp_path, "b/2.png", "b/c/3.png", "lost+found/4.png", "5.png")
    return tmp_path


@pytest.mark.parametrize(
    ("pattern", "files"),
    [
        ("*.png", ["5.png"]),
        ("*/*.png", ["a/1.png", "b/2.png"]),
        ("?/[0-2].png", ["a/1.png", "b/2.png"]),
        ("**/*.png", ["5.png", "a/1.png", "b/2.png", "b/c/3.png"]),
        ("**/c/*", ["b/c/3.png"]),
        ("*", ["5.png", "a/1.png", "b/2.png", "b/c/3.png"]),
        ("**", ["5.png", "a/1.png", "b/2.png", "b/c/3.png"]),
        ("*/@eaDir/*/*.png", ["a/@eaDir/1.png/small.png"]),
        ("*/.ipynb*/*", ["a/.ipynb_checkpoints/1.png"]),
        ("lost+found/*", ["lost+found/4.png"]),
    ],
)
def test_a_wildcard_matches_what_a_walk_would_enter(
    pattern: str, files: list[str], tree: Path
) -> None:
    assert found(tree, pattern)[0] == files


def test_what_a_wildcard_passes_over_is_counted(tree: Path) -> None:
    _, notes = found(tree, "**/*.png")
    assert notes == [
        "passed over 1 file: 1 hidden; 3 folders: 1 .ipynb_checkpoints, 1 @eaDir, 1 lost+found"
    ]
    with pytest.raises(DataError, match=r"matches nothing; passed over 1 folder: 1 @eaDir"):
        found(tree, "a/@ea*/*/*")


def test_a_loop_of_links_ends(tree: Path) -> None:
    (tree / "a" / "loop").symlink_to(tree)
    (tree / "0").symlink_to(tree / "b")
    assert found(tree, "**/*.png")[0] == ["5.png", "a/1.png", "b/2.png", "b/c/3.png"]


def test_a_pattern_without_a_folder_matches_nothing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"absent/[*]: the pattern matches nothing$"):
        find_images([f"{tmp_path}/absent/*"])
    with pytest.raises(DataError, match=r"absent/[*][*]/x: the pattern matches nothing$"):
        find_images([f"{tmp_path}/absent/**/x"])


def test_a_pattern_may_be_relative(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tree)
    assert [str(file) for file in find_images(["?/*.png"])] == ["a/1.png", "b/2.png"]
    assert [str(file) for file in find_images(["**/3.png"])] == ["b/c/3.png"]

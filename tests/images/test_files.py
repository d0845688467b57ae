"""Image files are found, decoded in order and in parallel, and labelled by folder."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gsp_deploy.config import PreprocessingSpec
from gsp_deploy.errors import DataError, UsageError
from gsp_deploy.images import files as image_files
from gsp_deploy.images.files import ImageReader, class_labels, find_images
from gsp_deploy.images.preprocessing import load_image

SPEC = PreprocessingSpec(8, 8)


def write_image(path: Path, value: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (9, 11), (value, value, value)).save(path)
    return path


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for value, name in enumerate(("b/2.png", "b/1.PNG", "a/deep/3.jpg", "a/0.png")):
        write_image(tmp_path / name, 10 * value)
    for name in ("a/notes.txt", "a/.hidden.png", ".cache/4.png"):
        write_image(tmp_path / "real.png").rename(tmp_path / "moving")
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / "moving").rename(tmp_path / name)
    return tmp_path


def names(root: Path, files: list[Path]) -> list[str]:
    return [file.relative_to(root).as_posix() for file in files]


def test_a_folder_is_searched_to_the_bottom_in_sorted_order(tree: Path) -> None:
    assert names(tree, find_images([tree])) == ["a/0.png", "a/deep/3.jpg", "b/1.PNG", "b/2.png"]


def test_arguments_keep_their_order_and_nothing_comes_twice(tree: Path) -> None:
    found = find_images([tree / "b", str(tree / "a" / "*"), tree])
    assert names(tree, found) == ["b/1.PNG", "b/2.png", "a/0.png", "a/deep/3.jpg"]


def test_a_pattern_may_cross_folders(tree: Path) -> None:
    assert names(tree, find_images([f"{tree}/**/*.jpg"])) == ["a/deep/3.jpg"]


def test_a_file_named_directly_may_have_any_suffix(tree: Path) -> None:
    assert names(tree, find_images([tree / "a" / "notes.txt"])) == ["a/notes.txt"]


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(tmp_path: Path) -> None:
    file = write_image(tmp_path / "shot[1].png")
    write_image(tmp_path / "shot1.png")
    assert find_images([file]) == [file]


def test_linked_folders_are_followed_and_cycles_end(tree: Path) -> None:
    outside = tree.parent / "outside"
    write_image(outside / "5.png")
    (tree / "c").symlink_to(outside)
    (outside / "back").symlink_to(tree)
    assert "c/5.png" in names(tree, find_images([tree]))


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("missing", "no such file or folder"),
        ("missing/*.png", "matches nothing"),
        ("empty", r"no image in .*empty \(suffixes: .*\.bmp, "),
    ],
)
def test_what_is_not_there_is_named(tmp_path: Path, argument: str, message: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=message):
        find_images([tmp_path / argument])


def test_batches_hold_the_decoded_files_in_order(tmp_path: Path) -> None:
    files = [write_image(tmp_path / f"{i:02}.png", i) for i in range(11)]
    reader = ImageReader(files, SPEC, batch_size=4, threads=3)
    batches = list(reader)
    assert [len(batch) for batch in batches] == [4, 4, 3]
    assert batches[0].images.dtype == np.uint8
    pixels = np.concatenate([batch.images for batch in batches])
    np.testing.assert_array_equal(pixels, [load_image(file, SPEC) for file in files])
    assert [i for batch in batches for i in batch.ids] == [file.as_posix() for file in files]


def test_broken_files_are_listed_and_the_batches_stay_full(tmp_path: Path) -> None:
    files = [write_image(tmp_path / f"{i}.png", i) for i in range(6)]
    files[1].write_bytes(b"no image")
    files[4].unlink()
    reader = ImageReader(files, SPEC, batch_size=2)
    assert [batch.files for batch in reader] == [(files[0], files[2]), (files[3], files[5])]
    assert [failure.file for failure in reader.failures] == [files[1], files[4]]
    assert "not an image" in reader.failures[0].reason
    assert "no such file" in reader.failures[1].reason
    assert len(list(reader)) == 2  # a second pass starts anew
    assert len(reader.failures) == 2


def test_strict_raises_for_the_first_broken_file(tmp_path: Path) -> None:
    files = [write_image(tmp_path / f"{i}.png") for i in range(4)]
    files[2].write_bytes(b"")
    batches = iter(ImageReader(files, SPEC, batch_size=2, strict=True))
    assert next(batches).files == (files[0], files[1])
    with pytest.raises(DataError, match=r"2\.png"):
        next(batches)


def test_nothing_readable_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    file.write_bytes(b"")
    with pytest.raises(DataError, match="none of the 1 images"):
        list(ImageReader([file], SPEC))


def test_decoding_runs_ahead_by_a_bounded_number(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Path] = []

    def decode(file: Path, spec: PreprocessingSpec, reduced: bool) -> np.ndarray:
        started.append(file)
        return np.zeros((8, 8, 3), np.uint8)

    monkeypatch.setattr(image_files, "load_image", decode)
    before = set(threading.enumerate())
    batches = iter(ImageReader([Path(str(i)) for i in range(1000)], SPEC, 10, threads=2))
    next(batches)
    batches.close()  # type: ignore[attr-defined]
    assert len(started) <= 10 + 10 + 2
    assert set(threading.enumerate()) <= before


def test_slow_files_do_not_change_the_order(monkeypatch: pytest.MonkeyPatch) -> None:
    def decode(file: Path, spec: PreprocessingSpec, reduced: bool) -> np.ndarray:
        time.sleep(0.02 if file.name == "0" else 0)
        return np.full((8, 8, 3), int(file.name), np.uint8)

    monkeypatch.setattr(image_files, "load_image", decode)
    (batch,) = ImageReader([Path(str(i)) for i in range(6)], SPEC, threads=4)
    assert batch.images[:, 0, 0, 0].tolist() == list(range(6))


@pytest.mark.parametrize("options", [{"batch_size": 0}, {"threads": 0}])
def test_settings_below_one_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(UsageError, match="at least 1, got 0"):
        ImageReader([], SPEC, **options)


@pytest.mark.parametrize(
    ("files", "labels"),
    [
        (["cat/1", "dog/1", "cat/2"], [0, 1, 0]),
        (["train/cat/1", "train/dog/1", "test/cat/1"], [0, 1, 0]),
        (["a/1", "a/2"], None),  # one folder
        (["1", "cat/1", "cat/2"], None),  # one inside the other
        (["cat/1", "dog/1"], None),  # nothing to retrieve
        ([], None),
    ],
)
def test_labels_come_from_a_folder_per_class(files: list[str], labels: list[int] | None) -> None:
    found = class_labels([Path("root", file) for file in files])
    assert (None if found is None else found.tolist()) == labels


@pytest.mark.parametrize("way", ["named", "pattern"])
def test_a_pipe_is_no_image_and_is_not_waited_for(tmp_path: Path, way: str) -> None:
    write_image(tmp_path / "1.png")
    os.mkfifo(tmp_path / "2.png")
    if way == "pattern":
        assert find_images([f"{tmp_path}/*.png"]) == [tmp_path / "1.png"]
    with pytest.raises(DataError, match=r"2\.png: expected a regular file, got a pipe"):
        load_image(tmp_path / "2.png", SPEC)

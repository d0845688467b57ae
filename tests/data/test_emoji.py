from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from gsp_deploy.data import open_dataset
from gsp_deploy.data.emoji import EmojiCollage, EmojiSettings, emoji_dataset, pool_of
from gsp_deploy.data.emoji_packages import PACKAGES, drawing, find_drawings
from gsp_deploy.errors import ConfigError, DataError, MissingCapabilityError, UsageError

VENDORS = ("google", "twitter", "microsoft")
CODES = [f"1f{number:x}" for number in range(0x600, 0x63C)]
IMAGES = 6


def package(folder: Path, vendor: str, codes: list[str], version: str = "1.0.0") -> Path:
    """Lay out one vendor's package: a disc whose colour follows from character and vendor."""
    found = PACKAGES[vendor]
    images = folder / found.name / found.folder
    images.mkdir(parents=True)
    (folder / found.name / "package.json").write_text(json.dumps({"version": version}))
    for number, code in enumerate(codes):
        picture = Image.new("RGBA", (64, 64))
        colour = (4 * number, 80 * VENDORS.index(vendor), 255 - 4 * number, 255)
        ImageDraw.Draw(picture).ellipse((4, 12, 56, 52), fill=colour)
        picture.save(images / f"{code}{found.suffix}", lossless=True)
    return images


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a node_modules with the three packages; sequences and one vendor's own are there."""
    root = tmp_path / "node_modules"
    package(root, "google", [*CODES, "2764-fe0f", "1f1e6-1f1e8", "1f44b-1f3fb", "1f9ff"])
    package(root, "twitter", [*CODES, "2764-fe0f", "1f1e6-1f1e8"])
    package(root, "microsoft", [*CODES, "2764-fe0f", "1f44b-1f3fb"], version="1.1.0")
    return root


def settings(folder: Path, **changed: object) -> EmojiSettings:
    small = {"images_per_class": IMAGES, "train_classes": 8, "test_classes": 5, "size": 64}
    return EmojiSettings(**{**small, "path": str(folder), **changed})  # type: ignore[arg-type]


def test_a_class_is_a_character_that_every_vendor_draws(folder: Path) -> None:
    found = find_drawings(str(folder), VENDORS)
    assert [drawings.version for drawings in found] == ["1.0.0", "1.0.0", "1.1.0"]
    assert set(found[1].files) == {*CODES, "2764"}
    assert set(found[0].files) == {*CODES, "2764", "1f9ff"}
    dataset = open_dataset(
        f"emoji:path={folder},train_classes=8,test_classes=5,images_per_class={IMAGES}"
    )
    assert (len(dataset.train), len(dataset.test)) == (8 * IMAGES, 5 * IMAGES)
    assert {pool_of(code) for code in dataset.train.class_names} == {"train"}
    assert {pool_of(code) for code in dataset.test.class_names} == {"test"}
    assert "1f9ff" not in dataset.train.class_names + dataset.test.class_names


def test_the_images_of_a_class_take_turns_among_the_vendors(folder: Path) -> None:
    dataset = emoji_dataset(settings(folder, clutter=0, scale=0.6))
    for index in range(2 * IMAGES):
        number = CODES.index(dataset.train.class_name(index))
        picture = np.asarray(dataset.train.image(index))
        (inside,) = {tuple(p) for p in picture[_core(dataset.train.object_mask(index))]}
        assert inside == (4 * number, 80 * (index % 3), 255 - 4 * number)


def _core(mask: np.ndarray) -> np.ndarray:
    """Return a mask of the 3x3 pixels in the middle of an object."""
    middle = np.argwhere(mask).mean(axis=0).round().astype(int)
    core = np.zeros_like(mask)
    core[middle[0] - 1 : middle[0] + 2, middle[1] - 1 : middle[1] + 2] = True
    return core


@pytest.mark.parametrize("clutter", [0, 3])
def test_the_mask_is_where_the_object_changed_the_picture(folder: Path, clutter: int) -> None:
    source = emoji_dataset(settings(folder, clutter=clutter)).test.source
    assert isinstance(source, EmojiCollage)
    for position in range(5 * IMAGES):
        scene = source.scene(position)
        before, after = (np.asarray(i).astype(int) for i in (scene.ground, scene.image()))
        changed = np.abs(after - before).max(axis=2)
        mask = source.object_mask(position)
        assert 0.02 < mask.mean() < 0.2
        assert changed[~mask].mean() < 0.2 * changed[mask].mean()
    distractors = set(source.distractors)
    assert distractors
    assert {pool_of(code) for code in distractors} == {"distractors"}


def test_an_image_depends_on_settings_and_position_but_not_on_the_folder(folder: Path) -> None:
    first = emoji_dataset(settings(folder)).train
    before = [first.image(index).tobytes() for index in range(len(first))]
    moved = folder.rename(folder.with_name("elsewhere"))
    again = pickle.loads(pickle.dumps(emoji_dataset(settings(moved)).train))
    assert [again.image(index).tobytes() for index in reversed(range(len(again)))] == before[::-1]
    assert len(set(before)) == len(before)
    assert first.fingerprint() == again.fingerprint()


def test_the_fingerprint_knows_the_packages_versions(folder: Path, tmp_path: Path) -> None:
    newer = tmp_path / "newer"
    for vendor in VENDORS:
        package(newer, vendor, CODES, version="2.0.0")
    one, other = (emoji_dataset(settings(root)).train for root in (folder, newer))
    assert one.fingerprint() != other.fingerprint()


def test_missing_packages_are_named_with_npms_command(folder: Path) -> None:
    (folder / "emoji-datasource-twitter" / "package.json").unlink()
    with pytest.raises(
        MissingCapabilityError,
        match=r"lacks the emoji of twitter; .*: npm install --ignore-scripts "
        r"emoji-datasource-twitter, or pass another folder: emoji:path=FOLDER",
    ):
        open_dataset(f"emoji:path={folder}")
    two = f"emoji:path={folder},vendors=google+microsoft,train_classes=4,test_classes=4"
    assert open_dataset(two).train.num_classes == 4
    with pytest.raises(MissingCapabilityError, match="google, twitter, microsoft"):
        open_dataset("emoji:path=/no/such/place")


@pytest.mark.parametrize("vendors", ["google", "google+google", "google+nokia", ""])
def test_vendors_must_be_two_that_are_known(vendors: str) -> None:
    with pytest.raises(ConfigError, match=r"at least two different ones of google, twitter, .* \+"):
        EmojiSettings(vendors=vendors)


def test_more_classes_than_characters_are_refused(folder: Path) -> None:
    there = sum(pool_of(code) == "test" for code in [*CODES, "2764"])
    with pytest.raises(UsageError, match=f"test_classes=300 is more than the {there} test charac"):
        emoji_dataset(settings(folder, test_classes=300))


def test_a_damaged_package_is_named(folder: Path, tmp_path: Path) -> None:
    broken, blank = tmp_path / "broken.png", tmp_path / "blank.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\n")
    Image.new("RGBA", (8, 8)).save(blank)
    for file, message in ((broken, "damaged image"), (blank, "got a transparent image")):
        with pytest.raises(DataError, match=message) as caught:
            drawing(file)
        assert str(file) in str(caught.value)
    (folder / "emoji-datasource-google" / "package.json").write_text("[]")
    with pytest.raises(DataError, match=r"google/package\.json: expected npm's description"):
        emoji_dataset(settings(folder, seed=1))
    empty = tmp_path / "empty"
    for vendor in VENDORS:
        package(empty, vendor, [] if vendor == "microsoft" else CODES)
    with pytest.raises(DataError, match=r"drawings such as assets/1f600\.webp, found none"):
        emoji_dataset(settings(empty))


def test_without_characters_for_distractors_only_clutter_is_refused(tmp_path: Path) -> None:
    few = [code for code in CODES if pool_of(code) != "distractors"]
    for vendor in VENDORS:
        package(tmp_path, vendor, few)
    with pytest.raises(UsageError, match="use clutter=0, or install whole packages"):
        emoji_dataset(settings(tmp_path, clutter=1))
    assert len(emoji_dataset(settings(tmp_path, clutter=0)).test) == 5 * IMAGES

from __future__ import annotations

import pickle

import numpy as np
import pytest
from PIL import Image

from gsp_deploy.data import open_dataset
from gsp_deploy.data.characters import CLASSES, class_name
from gsp_deploy.data.glyphs import GlyphCollage, GlyphSettings, glyph_dataset
from gsp_deploy.data.typefaces import glyph, typefaces_of
from gsp_deploy.errors import ConfigError

SMALL = GlyphSettings(images_per_class=3, train_classes=8, test_classes=5, size=64)


def pixels(image: Image.Image) -> np.ndarray:
    assert image.mode == "RGB"
    return np.asarray(image)


def test_the_default_set_has_hundreds_of_classes_and_draws_nothing_yet() -> None:
    dataset = glyph_dataset()
    assert dataset.train.num_classes == 300
    assert dataset.test.num_classes == 150
    assert not set(dataset.train.class_names) & set(dataset.test.class_names)
    assert len(dataset.train) == 300 * 40
    assert np.bincount(dataset.train.labels).tolist() == [40] * 300
    assert dataset.train.ids[41] == f"train/{dataset.train.class_names[1]}/0001.png"
    assert list(dataset.train.class_names) == sorted(dataset.train.class_names)


def test_test_classes_stay_unseen_with_any_settings() -> None:
    training, tested = set(), set()
    for count in (2, 40, 150):
        for seed in (0, 9):
            dataset = glyph_dataset(
                GlyphSettings(train_classes=2 * count, test_classes=count, seed=seed)
            )
            training |= set(dataset.train.class_names)
            tested |= set(dataset.test.class_names)
    assert not training & tested


def test_an_image_depends_on_nothing_but_settings_and_position() -> None:
    first, again = glyph_dataset(SMALL).train, glyph_dataset(SMALL).train
    forward = [pixels(first.image(i)).copy() for i in range(len(first))]
    for i in reversed(range(len(again))):
        assert np.array_equal(pixels(again.image(i)), forward[i])
    sent = pickle.loads(pickle.dumps(first))
    assert np.array_equal(pixels(sent.image(5)), forward[5])
    chosen = first.of_classes([4]).subset([2])
    assert np.array_equal(pixels(chosen.image(0)), forward[4 * 3 + 2])


def test_images_differ_from_each_other_and_between_seeds_and_parts() -> None:
    other = GlyphSettings(**{**SMALL.__dict__, "seed": 1})
    pictures = [
        images.image(i).tobytes()
        for dataset in (glyph_dataset(SMALL), glyph_dataset(other))
        for images in (dataset.train, dataset.test)
        for i in range(len(images))
    ]
    assert len(set(pictures)) == len(pictures) == 2 * (24 + 15)


@pytest.mark.parametrize("clutter", [0, 3, 9])
def test_the_mask_is_where_the_object_changed_the_picture(clutter: int) -> None:
    source = glyph_dataset(GlyphSettings(clutter=clutter, size=96)).train.source
    assert isinstance(source, GlyphCollage)
    for position in range(0, 4000, 161):
        scene = source.scene(position)
        before = pixels(scene.ground).astype(int)
        changed = np.abs(pixels(source.image(position)).astype(int) - before).max(axis=2)
        mask = source.object_mask(position)
        assert mask.dtype == bool
        assert mask.shape == (96, 96)
        assert mask.any()
        # The mask changed plainly (where a distractor of that colour is below it, it may not show),
        # and what else changed is a soft edge around it.
        assert np.mean(changed[mask] > 20) > (0.8 if clutter else 0.999)
        near = mask.copy()
        for axis in (0, 1):
            near = near | np.roll(near, 1, axis) | np.roll(near, -1, axis)
            near = near | np.roll(near, 1, axis) | np.roll(near, -1, axis)
        assert changed[~near].max(initial=0) < 100
        assert (changed[~mask] > 100).sum() < 0.5 * mask.sum()


def test_glyphs_can_be_read_off_their_ground() -> None:
    """The object's brightness differs from what surrounds it, in nearly every image and well."""
    images = glyph_dataset().test
    contrasts = []
    for index in range(0, 6000, 60):
        grey = np.asarray(images.image(index).convert("L"), dtype=np.float64)
        mask = images.object_mask(index)
        near = mask.copy()
        for _ in range(3):
            near |= np.roll(near, 1, 0) | np.roll(near, -1, 0)
            near |= np.roll(near, 1, 1) | np.roll(near, -1, 1)
        contrasts.append(abs(grey[mask].mean() - grey[near & ~mask].mean()))
    assert np.quantile(contrasts, 0.02) > 30
    assert np.median(contrasts) > 70


def test_scale_sets_the_objects_share_of_the_side() -> None:
    def longest(scale: float) -> float:
        images = glyph_dataset(GlyphSettings(scale=scale)).train
        spans = []
        for index in range(0, 12000, 400):
            rows, columns = np.nonzero(images.object_mask(index))
            spans.append(max(np.ptp(rows), np.ptp(columns)) + 1)
        return float(np.mean(spans)) / 112

    assert longest(0.2) == pytest.approx(0.2, rel=0.15)
    assert longest(0.5) == pytest.approx(0.5, rel=0.15)


def test_more_clutter_covers_more_of_the_ground() -> None:
    def changed(clutter: int) -> float:
        plain = glyph_dataset(GlyphSettings(clutter=0)).train.source
        source = glyph_dataset(GlyphSettings(clutter=clutter)).train.source
        assert isinstance(source, GlyphCollage)
        assert isinstance(plain, GlyphCollage)
        scenes = [source.scene(position) for position in range(0, 12000, 1500)]
        return float(np.mean([pixels(s.ground).std() for s in scenes]))

    assert changed(0) < changed(3) < changed(8)


def test_the_largest_and_the_smallest_settings_work() -> None:
    for settings in (
        GlyphSettings(clutter=64, scale=0.65, size=64),
        GlyphSettings(clutter=0, scale=0.375, size=32, images_per_class=1),
        GlyphSettings(clutter=1, scale=0.65, size=500),
    ):
        images = glyph_dataset(settings).train
        for index in range(0, len(images), max(1, len(images) // 7)):
            assert images.image(index).size == (settings.size, settings.size)
            assert images.object_mask(index).any()


def test_every_class_is_drawn_as_its_own_character() -> None:
    """The object is the class's character: its mask fits one of that character's glyphs best."""
    by_name = {class_name(c): c for c in "".join(CLASSES.values())}
    images = glyph_dataset(GlyphSettings(clutter=0, size=224, scale=0.6, images_per_class=1)).test

    def vector(ink: Image.Image) -> np.ndarray:
        square = ink.crop(ink.getbbox()).resize((32, 32), Image.Resampling.BOX)
        values = np.asarray(square, dtype=np.float64).ravel() - np.asarray(square).mean()
        return values / np.linalg.norm(values)

    keys = [(n, f) for n in images.class_names for f in typefaces_of(by_name[n])]
    drawn = np.stack([vector(glyph(by_name[name], face, 48)) for name, face in keys])
    right = [
        keys[int(np.argmax(drawn @ vector(Image.fromarray(images.object_mask(i)).convert("L"))))][0]
        == images.class_name(i)
        for i in range(len(images))
    ]
    assert np.mean(right) > 0.6  # turned, among 150 classes: chance is below 0.01


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"train_classes": 10_000}, "train_classes must be from 2 to"),
        ({"test_classes": 1}, "test_classes must be from 2 to"),
        ({"clutter": 65}, "clutter must be from 0 to 64"),
        ({"size": 32}, "scale x size must be at least 12 pixels .* got 0.35 x 32"),
    ],
)
def test_settings_are_checked(settings: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        GlyphSettings(**settings)


def test_the_fingerprint_follows_every_setting() -> None:
    specs = ["", "clutter=4", "size=96", "scale=0.3", "seed=1", "images_per_class=39"]
    prints = [open_dataset(f"glyphs:{spec}").test.fingerprint() for spec in specs]
    assert len(set(prints)) == len(specs)
    assert open_dataset("glyphs").test.fingerprint() == prints[0]

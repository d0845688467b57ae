"""Batches: a function of the step, grouped by class, the same for any number of workers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from gsp_deploy.config import PreprocessingSpec
from gsp_deploy.data.images import LabelledImages
from gsp_deploy.errors import DataError, UsageError
from gsp_deploy.images.preprocessing import fit_image
from gsp_deploy.training.augmentation import augment
from gsp_deploy.training.batches import BatchSampler, PlainBatches, TrainingBatches, load
from gsp_deploy.training.distributed import World
from gsp_deploy.training.sections import AugmentationSection, SamplerSection

from .tiny import SIDE, patches

SPEC = PreprocessingSpec(SIDE, SIDE)
STRONG = AugmentationSection(
    crop_area=(0.3, 0.9), flip=True, brightness=0.3, contrast=0.3, saturation=0.3
)


def sampler(labels, batch_size=8, images_per_class=4, seed=0):
    section = SamplerSection(batch_size=batch_size, images_per_class=images_per_class)
    return BatchSampler(np.asarray(labels), section, seed)


def test_class_balanced_batches():
    labels = np.repeat(np.arange(10), 6)
    batches = sampler(labels)
    for step in range(20):
        chosen = batches.indices(step)
        classes, counts = np.unique(labels[chosen], return_counts=True)
        assert len(classes) == 2
        assert set(counts) == {4}
        assert len(set(chosen)) == 8  # no image twice
        assert len(np.flatnonzero(np.diff(labels[chosen]))) == 1  # grouped by class
    assert len({tuple(batches.indices(step)) for step in range(20)}) == 20


def test_a_class_with_few_images_repeats_them():
    chosen = sampler([0, 1, 1, 1, 1]).indices(3)
    assert sorted(chosen)[:4] == [0, 0, 0, 0]


def test_every_class_is_drawn_equally_often():
    labels = np.repeat(np.arange(10), 6)
    drawn = np.concatenate([sampler(labels).indices(step) for step in range(1000)])
    share = np.bincount(labels[drawn]) / len(drawn)
    np.testing.assert_allclose(share, 0.1, atol=0.03)  # four standard deviations and a half


def test_a_shuffled_epoch_holds_every_image_once():
    batches = sampler(np.arange(24) % 3, images_per_class=0)
    assert batches.steps_per_epoch == 3
    epochs = [[batches.indices(3 * epoch + k) for k in range(3)] for epoch in range(2)]
    for epoch in epochs:
        assert sorted(np.concatenate(epoch)) == list(range(24))
    assert not np.array_equal(epochs[0], epochs[1])


def test_a_batch_that_cannot_be_filled_is_refused():
    with pytest.raises(UsageError, match="needs 3 classes, but the training part has 2"):
        sampler([0, 0, 1, 1], batch_size=12)
    with pytest.raises(UsageError, match="needs 8 images, but the training part has 4"):
        sampler([0, 0, 1, 1], images_per_class=0)


def batches_of(images, augmentation=STRONG, world=World(), seed=0):  # noqa: B008
    return TrainingBatches(images, sampler(images.labels, seed=seed), augmentation, SPEC, world)


def test_the_same_step_gives_the_same_pixels_with_any_workers():
    images = patches().train
    alone = list(load(batches_of(images), range(5), workers=0))
    later = list(load(batches_of(images), range(3, 5), workers=2))
    for expected, found in zip(alone[3:], later, strict=True):
        assert torch.equal(expected.images, found.images)
        assert torch.equal(expected.labels, found.labels)
    assert not torch.equal(alone[0].images, alone[1].images)
    assert not torch.equal(alone[0].images, batches_of(images, seed=1)[0].images)


def test_the_shares_of_two_processes_are_the_batch():
    images = patches().train
    whole = batches_of(images)[7]
    shares = [batches_of(images, world=World(rank, 2))[7] for rank in range(2)]
    assert torch.equal(torch.cat([share.images for share in shares]), whole.images)
    assert torch.equal(torch.cat([share.labels for share in shares]), whole.labels)
    with pytest.raises(UsageError, match="multiple of the 3 processes"):
        batches_of(images, world=World(0, 3))[0]


def test_plain_batches_hold_every_image_as_the_model_will_see_it():
    images = patches().train
    found = list(load(PlainBatches(images, SPEC, 10), range(5), workers=0))
    assert [len(batch.labels) for batch in found] == [10, 10, 10, 10, 8]
    assert torch.cat([batch.labels for batch in found]).tolist() == images.labels.tolist()
    np.testing.assert_array_equal(found[1].images[2], fit_image(images.image(12), SPEC))


class Unreadable:
    parameters = {"kind": "unreadable"}  # noqa: RUF012

    def image(self, position):
        raise DataError(f"picture {position}: damaged image")


@pytest.mark.parametrize("workers", [0, 1])
def test_an_unreadable_image_is_one_line_even_from_a_worker(workers):
    images = LabelledImages(Unreadable(), np.arange(8), tuple("abcdefgh"), [0, 1] * 4, ("x", "y"))
    with pytest.raises(DataError) as caught:
        list(load(batches_of(images), range(2), workers))
    assert str(caught.value).startswith("picture ")
    assert "\n" not in str(caught.value)


def gradient_image(width=40, height=30):
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return Image.fromarray(np.stack([x, y, 0 * x], axis=2).astype(np.uint8))


def test_without_augmentation_training_sees_what_the_model_will_see():
    image, rng = gradient_image(), np.random.default_rng(0)
    np.testing.assert_array_equal(
        augment(image, AugmentationSection(), SPEC, rng), fit_image(image, SPEC)
    )


def test_crops_cover_the_share_of_the_image_that_was_asked_for():
    """Red runs along x and green along y: their spans are the crop's width and height."""
    settings = AugmentationSection(crop_area=(0.25, 0.5), crop_aspect=(0.5, 2.0))
    image = gradient_image(400, 300)
    shares, aspects = [], []
    for seed in range(120):
        pixels = augment(image, settings, SPEC, np.random.default_rng(seed))
        step = 255 * (SIDE - 1) / SIDE  # the outermost pixels' centres are that far apart
        width = np.ptp(pixels[..., 0].astype(float)) / step
        height = np.ptp(pixels[..., 1].astype(float)) / step
        shares.append(width * height)
        aspects.append(400 * width / (300 * height))
    assert 0.23 < min(shares) < 0.3 < 0.45 < max(shares) < 0.53
    assert 0.45 < min(aspects) < 0.7 < 1.5 < max(aspects) < 2.2


def test_flips_mirror_half_of_the_images():
    settings = AugmentationSection(flip=True)
    plain = fit_image(gradient_image(), SPEC)
    flipped = [
        np.array_equal(
            augment(gradient_image(), settings, SPEC, np.random.default_rng(seed)), plain[:, ::-1]
        )
        for seed in range(200)
    ]
    assert 70 < sum(flipped) < 130


def test_an_impossible_crop_falls_back_to_the_whole_image():
    settings = AugmentationSection(crop_area=(1.0, 1.0), crop_aspect=(20.0, 20.0))
    np.testing.assert_array_equal(
        augment(gradient_image(), settings, SPEC, np.random.default_rng(0)),
        fit_image(gradient_image(), SPEC),
    )

"""An embedding must not depend on its batch; sessions that break that are caught."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pytest

from gsp_deploy.parity.invariance import batch_invariance

FLAT = 6 * 6 * 3
PROJECTION = np.random.default_rng(3).standard_normal((FLAT, 4))
Session = Callable[..., object]


def own(images: np.ndarray) -> np.ndarray:
    """Embed each image by itself: bit for bit the same whatever the batch."""
    rows = images.reshape(len(images), -1).astype(np.float64)
    return np.stack([row @ PROJECTION for row in rows])


def sound(images: np.ndarray) -> Mapping[str, np.ndarray]:
    return {"embedding": own(images)}


def normalised_over_the_batch(images: np.ndarray) -> Mapping[str, np.ndarray]:
    """What a batch norm left in training mode does."""
    return {"embedding": own(images) - 0.01 * own(images).mean(axis=0)}


def scaled_by_the_batch(images: np.ndarray) -> Mapping[str, np.ndarray]:
    """What dynamic quantisation with one scale for the batch does."""
    scale = max(float(np.abs(images.astype(float)).max()), 1)
    return {"embedding": own(np.round(images / scale * 15))}


def second_takes_from_first(images: np.ndarray) -> Mapping[str, np.ndarray]:
    found = own(images)
    found[1:2] += 0.01 * found[:1]
    return {"embedding": found}


def swapped(images: np.ndarray) -> Mapping[str, np.ndarray]:
    """Two images of a batch of three change places."""
    return {"embedding": own(images)[[0, 2, 1]] if len(images) == 3 else own(images)}


def fails_in_a_full_batch(images: np.ndarray) -> Mapping[str, np.ndarray]:
    return {"embedding": own(images) if len(images) < 8 else np.full((len(images), 4), np.nan)}


def test_a_sound_session_is_the_same_bit_for_bit(fake: Session, pixels: np.ndarray) -> None:
    found = batch_invariance(fake(sound), pixels)
    assert found.sizes == (1, 2, 3, 5, 8)
    assert found.bitwise
    assert found.position_error == found.leak == 0


@pytest.mark.parametrize(
    "compute", [normalised_over_the_batch, scaled_by_the_batch, second_takes_from_first]
)
def test_a_leak_between_the_images_of_a_batch_is_caught(
    fake: Session, pixels: np.ndarray, compute: object
) -> None:
    images = pixels.copy()
    images[0] //= 2  # so that a scale over the batch is not every image's own
    found = batch_invariance(fake(compute), images)
    assert max(found.leak, found.position_error) > 1e-3
    assert not found.bitwise


def test_a_leak_shows_as_such_when_only_the_neighbours_change(
    fake: Session, pixels: np.ndarray
) -> None:
    assert batch_invariance(fake(normalised_over_the_batch), pixels).leak > 1e-3


def test_images_that_change_places_are_caught_and_located(
    fake: Session, pixels: np.ndarray
) -> None:
    found = batch_invariance(fake(swapped), pixels)
    assert found.position_error > 0.01
    assert (found.worst_size, found.worst_position) in ((3, 1), (3, 2))


def test_a_batch_size_that_fails_is_caught(fake: Session, pixels: np.ndarray) -> None:
    found = batch_invariance(fake(fails_in_a_full_batch), pixels)
    assert found.position_error == np.inf
    assert found.worst_size == 8
    assert found.to_dict()["position_error"] is None


def test_rounding_is_no_leak(fake: Session, pixels: np.ndarray) -> None:
    """Another order of summation in larger batches: a change, but no bit of the neighbours."""

    def blocked(images: np.ndarray) -> Mapping[str, np.ndarray]:
        rows = images.reshape(len(images), -1).astype(np.float32)
        return {"embedding": rows @ PROJECTION.astype(np.float32) * (1 + 1e-7 * len(images))}

    found = batch_invariance(fake(blocked), pixels)
    assert 1e-8 < found.position_error < 1e-5
    assert found.leak < 1e-6


@pytest.mark.parametrize(("batch", "sizes"), [(1, (1,)), (4, (1, 2, 3)), (16, (1, 2, 3, 5, 8))])
def test_sizes_stay_within_a_fixed_batch(
    fake: Session, pixels: np.ndarray, batch: int, sizes: tuple[int, ...]
) -> None:
    assert batch_invariance(fake(sound, batch=batch), pixels).sizes == sizes


def test_one_image_is_enough(fake: Session, pixels: np.ndarray) -> None:
    assert batch_invariance(fake(sound), pixels[:1]).bitwise
    assert batch_invariance(fake(swapped), pixels[:1]).position_error > 0.01

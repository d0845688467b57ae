"""The normalised input equals the definition in float64."""

from __future__ import annotations

import numpy as np
import pytest

from gsp_deploy.config import PreprocessingSpec
from gsp_deploy.errors import UsageError
from gsp_deploy.images.normalisation import affine, normalise

SPEC = PreprocessingSpec(4, 6, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def test_normalised_pixels_are_those_of_the_definition() -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 4, 6, 3), np.uint8)
    found = normalise(images, SPEC)
    expected = (images / 255 - np.array(SPEC.mean)) / np.array(SPEC.std)
    np.testing.assert_allclose(found, expected.transpose(0, 3, 1, 2), atol=5e-7)
    assert found.dtype == np.float32
    assert found.flags.c_contiguous


def test_scale_and_shift_say_the_same() -> None:
    scale, shift = affine(SPEC)
    np.testing.assert_allclose(255 * scale + shift, (1 - np.array(SPEC.mean)) / SPEC.std, rtol=1e-6)
    assert scale.dtype == shift.dtype == np.float32


def test_no_images_are_no_images() -> None:
    assert normalise(np.zeros((0, 4, 6, 3), np.uint8), SPEC).shape == (0, 3, 4, 6)


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((2, 4, 6, 3), np.float32),
        np.zeros((4, 6, 3), np.uint8),
        np.zeros((2, 3, 4, 6), np.uint8),
        np.zeros((2, 4, 6, 4), np.uint8),
    ],
)
def test_other_shapes_and_types_are_named(images: np.ndarray) -> None:
    with pytest.raises(UsageError) as caught:
        normalise(images, SPEC)
    assert "uint8 images of shape (batch, height, width, 3)" in str(caught.value)
    assert f"{images.dtype} of shape {images.shape}" in str(caught.value)

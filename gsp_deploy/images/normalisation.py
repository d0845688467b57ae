"""Turn 8-bit pixels into the network's input; needs only numpy, because every session uses it."""

from __future__ import annotations

import numpy as np

from gsp_deploy.config import PreprocessingSpec
from gsp_deploy.errors import UsageError


def normalise(images: np.ndarray, spec: PreprocessingSpec) -> np.ndarray:
    """Turn uint8 `(B, H, W, 3)` into the network's float32 `(B, 3, H, W)`."""
    check_uint8_images(images)
    count, height, width, channels = images.shape
    found = np.empty((count, channels, height, width), np.float32)
    # Plane by plane, because numpy is slow where the innermost axis has only three entries.
    for channel, (scale, shift) in enumerate(zip(*affine(spec), strict=True)):
        plane = found[:, channel]
        np.multiply(images[..., channel], scale, out=plane, dtype=np.float32)
        plane += shift
    return found


def affine(spec: PreprocessingSpec) -> tuple[np.ndarray, np.ndarray]:
    """Return `scale, shift`, float32 `(3,)` each: normalised = pixel * scale + shift."""
    mean, std = np.asarray(spec.mean), np.asarray(spec.std)
    return (1 / (255 * std)).astype(np.float32), (-mean / std).astype(np.float32)


def check_uint8_images(images: np.ndarray) -> None:
    """Raise `UsageError` unless `images` is uint8 `(B, H, W, 3)`."""
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3:
        raise UsageError(
            "expected uint8 images of shape (batch, height, width, 3), "
            f"got {images.dtype} of shape {images.shape}"
        )

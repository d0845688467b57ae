"""Resize without antialiasing in whole numbers, as `cv2.resize` does.

`plugins/runtime/src/opencv_resize.cpp` is the same in C++.
"""

from __future__ import annotations

import numpy as np

from gsp_deploy.images.geometry import Window

_ONE = 1 << 11  # the weight 1 in OpenCV's fixed-point numbers
_SHARPNESS = -0.75  # parameter a of OpenCV's cubic kernel


def resize_like_opencv(
    pixels: np.ndarray, across: Window, down: Window, interpolation: str
) -> np.ndarray:
    """Return the crop of the resized image, uint8 `(down.size, across.size, 3)`.

    Args:
        pixels: uint8 `(height, width, 3)`.
        across, down: windows of the resized image to return.
        interpolation: `bilinear` is OpenCV's INTER_LINEAR, `bicubic` its INTER_CUBIC.
    """
    rows, row_weights = _taps(pixels.shape[0], down, interpolation)
    columns, column_weights = _taps(pixels.shape[1], across, interpolation)
    sums = np.zeros((down.size, across.size, 3), np.int64)
    for row, row_weight in zip(rows.T, row_weights.T, strict=True):
        for column, column_weight in zip(columns.T, column_weights.T, strict=True):
            weight = row_weight[:, None, None] * column_weight[None, :, None]
            sums += pixels[row[:, None], column[None, :]] * weight
    half = _ONE * _ONE // 2
    return ((sums + half) // (_ONE * _ONE)).clip(0, 255).astype(np.uint8)


def _taps(have: int, window: Window, interpolation: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the source pixels of each output pixel and their weights, `(size, taps)` each."""
    places = (np.arange(window.size) + window.start + 0.5) * (have / window.resized) - 0.5
    first = np.floor(places)
    x = places - first
    offsets: tuple[int, ...] = (0, 1)
    weights = [1 - x, x]
    if interpolation == "bicubic":
        a = _SHARPNESS
        offsets = (-1, 0, 1, 2)
        weights = [
            ((a * (x + 1) - 5 * a) * (x + 1) + 8 * a) * (x + 1) - 4 * a,
            ((a + 2) * x - (a + 3)) * x * x + 1,
            ((a + 2) * (1 - x) - (a + 3)) * (1 - x) * (1 - x) + 1,
        ]
        weights.append(1 - weights[0] - weights[1] - weights[2])
    sources = (first.astype(np.int64)[:, None] + np.array(offsets)).clip(0, have - 1)
    return sources, np.rint(np.stack(weights, axis=1) * _ONE).astype(np.int64)

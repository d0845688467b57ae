"""Blend transparent pixels with a white background."""

from __future__ import annotations

import numpy as np

_ROWS_BYTES = 1 << 24  # memory for the rows that are blended at once


def on_white(colour: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Return `colour` on white, rounded to the nearest of 256 values.

    Args:
        colour: uint8 `(height, width, 3)`, or `(height, width, 1)` for grey.
        alpha: uint8 `(height, width)`; 255 is opaque.

    Returns:
        uint8 `(height, width, 3)`.
    """
    height, width = alpha.shape
    out = np.empty((height, width, 3), np.uint8)
    step = max(1, _ROWS_BYTES // (6 * width))
    for row in range(0, height, step):
        rows = slice(row, row + step)
        opacity = alpha[rows, :, None].astype(np.uint16)
        # At most 255 * 255 + 127, which fits 16 bits.
        out[rows] = (colour[rows] * opacity + 255 * (255 - opacity) + 127) // 255
    return out

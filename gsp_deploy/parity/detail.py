"""Find images without detail, on which a low precision is further off than on photographs.

The locations of a constant image are alike, and so are their rounding errors: they add up in the
pooled vector, where those of a photograph's locations average out. Seen with EfficientNet-Lite0 in
fp16: errors of the embedding six times those of photographs, of the weights twice.
"""

from __future__ import annotations

import numpy as np

from gsp_deploy.base.words import counted

# An image is without detail if so many of its neighbouring pixels differ by at most so much (of
# the batch's range of values).
_ALIKE = 0.9
_STEP = 2 / 255


def without_detail(images: np.ndarray) -> np.ndarray:
    """Return which images have neighbouring pixels that are nearly all alike, `(n,)`.

    Args:
        images: uint8 `(n, H, W, 3)`, or float images `(n, 3, H, W)`.
    """
    wide: np.ndarray = images.astype(np.float32)
    if images.dtype == np.uint8:
        wide = wide.transpose(0, 3, 1, 2) / 255
    step = _STEP * max(1.0, float(np.ptp(wide)))
    steps = [np.abs(np.diff(wide, axis=axis)).max(axis=1) <= step for axis in (2, 3)]
    alike = np.concatenate([same.reshape(len(wide), -1) for same in steps], axis=1)
    if not alike.size:
        return np.zeros(len(wide), dtype=bool)
    found: np.ndarray = alike.mean(axis=1) >= _ALIKE
    return found


def note_on_detail(flat: np.ndarray) -> str | None:
    """Return the line to show beside a failed gate, None if every image has detail."""
    if not flat.any():
        return None
    return (
        f"{int(flat.sum())} of {counted(len(flat), 'image')} have next to no detail (constant or "
        "two-tone): their locations round alike, so errors add up that average out in "
        "photographs, and the limits are for photographs; check on images of your own kind, or "
        "set the limit of the gate that failed"
    )

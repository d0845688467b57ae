"""Check that an image's embedding does not depend on the rest of its batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from gsp_deploy.parity.distribution import finite
from gsp_deploy.runtime.session import EmbeddingSession

BATCH_SIZES = (1, 2, 3, 5, 8)
_TINY = 1e-30


@dataclass(frozen=True)
class BatchInvariance:
    """Largest change of an embedding, relative to its length, over all batches that were tried.

    Attributes:
        sizes: the batch sizes; every image was at every position of each.
        position_error: against the image embedded alone.
        worst_size, worst_position: the batch size and position of that change.
        leak: the change when the other images of the batch are replaced.
        bitwise: no bit of any embedding changed.
    """

    sizes: tuple[int, ...]
    position_error: float
    worst_size: int
    worst_position: int
    leak: float
    bitwise: bool

    @property
    def error(self) -> float:
        """The larger of `position_error` and `leak`."""
        return max(self.position_error, self.leak)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-able data."""
        return {
            "sizes": list(self.sizes),
            "position_error": finite(self.position_error),
            "worst_size": self.worst_size,
            "worst_position": self.worst_position,
            "leak": finite(self.leak),
            "bitwise": self.bitwise,
        }


def batch_invariance(session: EmbeddingSession, images: np.ndarray) -> BatchInvariance:
    """Embed the same images alone, at every position of several batch sizes, among others.

    Args:
        session: the model.
        images: its input, at least one image; the first 8 count, and shifted copies fill up to 8.
    """
    limit = session.info.input.shape[0]
    sizes = tuple(s for s in BATCH_SIZES if not isinstance(limit, int) or s <= limit)
    sample = _distinct(images, max(sizes))
    alone = np.concatenate([session.embed(image[None]) for image in sample])
    changes = [
        (change, size, position)
        for size in sizes
        for position, change in enumerate(_position_changes(session, sample[:size], alone))
    ]
    worst, size, position = max(changes)
    leak = _leak(session, sample) if len(sample) > 1 else 0.0
    return BatchInvariance(sizes, worst, size, position, leak, bool(worst == leak == 0))


def _position_changes(
    session: EmbeddingSession, sample: np.ndarray, alone: np.ndarray
) -> np.ndarray:
    """Return the largest change at each position, `(B,)`, over all rotations of the batch."""
    size = len(sample)
    changes = np.zeros(size)
    for shift in range(size):
        order = (np.arange(size) + shift) % size
        changes = np.maximum(changes, _changes(session.embed(sample[order]), alone[order]))
    return changes


def _leak(session: EmbeddingSession, sample: np.ndarray) -> float:
    """Return the largest change of an image when the others become their negatives, or blank."""
    before = session.embed(sample)
    # In wider integers, because 8-bit pixels would wrap around.
    wide = sample.astype(np.int64 if sample.dtype == np.uint8 else sample.dtype)
    negatives = (wide.max() + wide.min() - wide).astype(sample.dtype)
    worst = 0.0
    for position in sorted({0, len(sample) // 2, len(sample) - 1}):
        for others in (negatives, np.zeros_like(sample), np.full_like(sample, sample.max())):
            batch = others.copy()
            batch[position] = sample[position]
            kept = session.embed(batch)[position : position + 1]
            worst = max(worst, float(_changes(kept, before[position : position + 1])[0]))
    return worst


def _changes(found: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Return |found - expected| / |expected| of each row; NaN becomes infinite."""
    with np.errstate(invalid="ignore"):
        distance = np.linalg.norm(found.astype(np.float64) - expected, axis=1)
    relative = distance / np.maximum(np.linalg.norm(expected, axis=1), _TINY)
    return np.where(np.isfinite(relative), relative, np.inf)


def _distinct(images: np.ndarray, count: int) -> np.ndarray:
    """Return the first `count` images; if there are fewer, add copies shifted sideways."""
    shifted = [np.roll(images, turn, axis=2) for turn in range(-(-count // len(images)))]
    return np.concatenate(shifted)[:count]

"""Features as a trained model has them: some locations near a prototype, some exactly on one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

COSINES = (0.3, 0.6, 0.9, 0.99, 0.9999, 1.0)


def near_prototypes(
    seed: int,
    share: float,
    *,
    dim: int = 64,
    count: int = 32,
    images: int = 8,
    locations: int = 49,
    cosines: Sequence[float] = COSINES,
) -> tuple[np.ndarray, np.ndarray]:
    """Return prototypes `(count, dim)` and embeddings `(images, dim, locations)`, float32.

    `share` of the locations are at one of `cosines` to a prototype, the others anywhere.
    """
    draw = np.random.default_rng(seed)
    prototypes = draw.standard_normal((count, dim))
    unit = _normalised(prototypes)
    anywhere = _normalised(draw.standard_normal((images, locations, dim)))
    towards = unit[draw.integers(count, size=(images, locations))]
    across = _normalised(anywhere - (anywhere * towards).sum(-1, keepdims=True) * towards)
    cosine = draw.choice(cosines, size=(images, locations, 1))
    near = cosine * towards + np.sqrt(1 - cosine**2) * across
    chosen = draw.random((images, locations, 1)) < share
    lengths = draw.uniform(1, 5, size=(images, locations, 1))
    embeddings = np.where(chosen, near, anywhere) * lengths
    return prototypes.astype(np.float32), embeddings.transpose(0, 2, 1).astype(np.float32)


def _normalised(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)

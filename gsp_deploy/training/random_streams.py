"""Random choices as functions of where they are made: (seed, stream, step, place).

Nothing random has a state that would have to be saved, so a run that is killed and resumed, or
that loads its images with another number of workers, makes the same choices.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np
import torch


class Stream(IntEnum):
    """What a random number is for; streams of different purpose are independent."""

    PARAMETERS = 0
    BATCHES = 1
    AUGMENTATION = 2
    NETWORK = 3  # dropout and stochastic depth


def generator(seed: int, stream: Stream, *place: int) -> np.random.Generator:
    """Return the generator that belongs to one place, e.g. (step, position in the batch)."""
    return np.random.default_rng([seed, int(stream), *place])


def seed_torch(seed: int, stream: Stream, *place: int) -> None:
    """Seed torch's generators for what follows at one place."""
    torch.manual_seed(int(generator(seed, stream, *place).integers(2**63)))

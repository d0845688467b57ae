"""Make every random choice a function of (seed, stream, step, place).

No random generator has a state to save. A run that is killed and resumed, or that uses another
number of workers, therefore makes the same choices.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np
import torch


class Stream(IntEnum):
    """Purposes of random numbers; streams for different purposes are independent."""

    PARAMETERS = 0
    BATCHES = 1
    AUGMENTATION = 2
    NETWORK = 3  # dropout and stochastic depth


def generator(seed: int, stream: Stream, *place: int) -> np.random.Generator:
    """Return the generator for one place, such as (step, position in the batch)."""
    return np.random.default_rng([seed, int(stream), *place])


def seed_torch(seed: int, stream: Stream, *place: int) -> None:
    """Seed torch's generators for one place, such as a step."""
    torch.manual_seed(int(generator(seed, stream, *place).integers(2**63)))

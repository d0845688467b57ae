"""The widest floating type that a device computes in."""

from __future__ import annotations

import torch
from torch import Tensor


def widest_dtype(tensor: Tensor) -> torch.dtype:
    """Return float64, or float32 on Apple's GPUs, which have no float64."""
    return torch.float32 if tensor.device.type == "mps" else torch.float64

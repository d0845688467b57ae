"""Make the inputs for timing a model: seeded noise in the shape of its input."""

from __future__ import annotations

import numpy as np

from gsp_deploy.benchmark.settings import BenchmarkSettings
from gsp_deploy.errors import UsageError
from gsp_deploy.runtime import EmbeddingSession
from gsp_deploy.runtime.session import SessionInfo

# The feature map of a ResNet for an image of 224 px.
HEAD_ONLY_SIZE = (7, 7)
_FEATURES = "features"


def example_inputs(
    session: EmbeddingSession, batch: int, settings: BenchmarkSettings
) -> np.ndarray:
    """Return one prepared batch for `session.infer`.

    Raises:
        UsageError: the graph has another, fixed batch size, or open sizes without a value.
    """
    info = session.info
    fixed = info.input.shape[0]
    if isinstance(fixed, int) and fixed != batch:
        raise UsageError(
            f"{info.path} takes batches of {fixed} only; pass --batch {fixed}, or export it "
            "without --static-batch"
        )
    shape = (batch, *_sizes(info, settings))
    draw = np.random.default_rng(batch)
    if info.input.dtype == "uint8":
        return session.prepare(draw.integers(0, 256, shape, dtype=np.uint8))
    values = draw.standard_normal(shape, dtype=np.float32)
    return session.prepare(np.abs(values) if info.preprocessing is None else values)


def _sizes(info: SessionInfo, settings: BenchmarkSettings) -> list[int]:
    """Return the input's sizes without the batch, with a value for each open size."""
    open_size = settings.size or _default_size(info)
    sizes = []
    spatial = 1 if info.input.dtype == "uint8" else 2  # (B, H, W, 3) or (B, C, H, W)
    for axis, size in enumerate(info.input.shape[1:], start=1):
        is_spatial = axis in (spatial, spatial + 1)
        if isinstance(size, str) and is_spatial and open_size is not None:
            size = open_size[axis - spatial]
        if isinstance(size, str):
            raise UsageError(
                f"{info.path}: input {info.input.name} leaves {size} open; pass --size"
            )
        sizes.append(size)
    return sizes


def _default_size(info: SessionInfo) -> tuple[int, int] | None:
    if info.preprocessing is not None:
        return info.preprocessing.height, info.preprocessing.width
    return HEAD_ONLY_SIZE if info.input.name == _FEATURES else None

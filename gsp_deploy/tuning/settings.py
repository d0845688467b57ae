"""The settings for measuring candidates."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gsp_deploy.benchmark import BenchmarkSettings
from gsp_deploy.errors import UsageError

TIMING = BenchmarkSettings(batches=(1, 8), repeats=30, twin=False, memory=False)


@dataclass(frozen=True)
class TuningSettings:
    """Settings of `tune`.

    Args:
        images: approximate number of test images to score on.
        calibrate: folder of images that calibrate int8; None takes the data set's training part.
        int8_drop: points of MAP@R that int8 may lose before it leaves layers in float32.
        benchmark: batch sizes, rounds, threads and device; tuning measures no twin and no memory.
        engines: build a TensorRT engine from each export for this machine's GPU, and measure it.

    Raises:
        UsageError: there are fewer than 2 images.
    """

    images: int = 2000
    calibrate: Path | None = None
    int8_drop: float = 0.5
    benchmark: BenchmarkSettings = TIMING
    engines: bool = False

    def __post_init__(self) -> None:
        if self.images < 2:
            raise UsageError(f"expected at least 2 images to score on, got {self.images}")

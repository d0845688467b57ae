"""How candidates are measured."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gsp_deploy.benchmark import BenchmarkSettings
from gsp_deploy.errors import UsageError

TIMING = BenchmarkSettings(batches=(1, 8), repeats=30, twin=False, memory=False)


@dataclass(frozen=True)
class TuningSettings:
    """How candidates are measured.

    Args:
        images: test images to score on, about.
        calibrate: folder of images for int8; None takes the data set's training part.
        int8_drop: points of MAP@R that int8 may lose before it leaves layers in float32.
        benchmark: batch sizes, rounds, threads and device; there is no twin and no memory figure.
        engines: build a TensorRT engine of each export for the GPU that is here, and measure it.
    """

    images: int = 2000
    calibrate: Path | None = None
    int8_drop: float = 0.5
    benchmark: BenchmarkSettings = TIMING
    engines: bool = False

    def __post_init__(self) -> None:
        if self.images < 2:
            raise UsageError(f"expected at least 2 images to score on, got {self.images}")

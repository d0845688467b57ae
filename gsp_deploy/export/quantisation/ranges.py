"""Measure the range of every activation on the calibration images with ONNX Runtime."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import onnx_ir as ir
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, create_calibrator

from gsp_deploy.base.progress import quiet
from gsp_deploy.errors import GspDeployError
from gsp_deploy.export.calibration import Calibration

Ranges = Mapping[str, tuple[float, float]]

# Settings of a calibrator besides its method. With ONNX Runtime's default of 128 bins, entropy has
# only one threshold to choose from: the largest value.
SETTINGS: Mapping[str, Mapping[str, float]] = {
    "min-max": {},
    "percentile": {"percentile": 99.99, "num_bins": 2048},
    "entropy": {"num_bins": 512, "num_quantized_bins": 128},
}
_METHODS = {
    "min-max": CalibrationMethod.MinMax,
    "percentile": CalibrationMethod.Percentile,
    "entropy": CalibrationMethod.Entropy,
}
_CALIBRATED = ["Clip", "Conv", "Gemm", "MatMul", "Relu"]
# Histograms need whole activations in memory. This limits how much one chunk of images takes.
_CHUNK_BYTES = 256_000_000
_LARGEST_CHUNK = 32


def calibrate_ranges(backbone: ir.Model, calibration: Calibration, method: str) -> Ranges:
    """Return `(low, high)` by tensor, for the layers' inputs and outputs, sorted by name.

    Args:
        backbone: the float32 graph, with shapes.
        calibration: the images.
        method: `min-max`, `percentile` or `entropy`.

    Raises:
        GspDeployError: an activation is not finite.
    """
    with tempfile.TemporaryDirectory(prefix="gsp-calibrate-") as folder, quiet():
        path = Path(folder) / "model.onnx"
        ir.save(backbone, path)
        calibrator = create_calibrator(
            path,
            _CALIBRATED,
            str(Path(folder) / "augmented.onnx"),
            _METHODS[method],
            extra_options=dict(SETTINGS[method]),
        )
        source = backbone.graph.inputs[0]
        assert source.dtype is not None
        for batch in _batches(backbone, calibration):
            images = calibration.prepare(batch, source.dtype.numpy().name)
            calibrator.collect_data(_Feed(str(source.name), images))
        found = calibrator.compute_data()
    return {name: _finite(name, *found[name].range_value) for name in sorted(found.keys())}


class _Feed(CalibrationDataReader):
    """Passes one chunk to a calibrator, which keeps its statistics and frees the values."""

    def __init__(self, name: str, images: np.ndarray) -> None:
        self._chunks: Iterator[dict[str, np.ndarray]] = iter([{name: images}])

    def get_next(self) -> dict[str, np.ndarray] | None:  # type: ignore[override]
        return next(self._chunks, None)


def _batches(backbone: ir.Model, calibration: Calibration) -> Iterator[np.ndarray]:
    """Yield the images in chunks; whole ones if the batch size is fixed."""
    batch = backbone.graph.inputs[0].shape
    if batch is not None and isinstance(batch[0], int):
        yield from calibration.batches(batch[0])
        return
    chunk = _chunk(backbone)
    for start in range(0, len(calibration.inputs), chunk):
        yield calibration.inputs[start : start + chunk]


def _chunk(backbone: ir.Model) -> int:
    """Return how many images may run in one chunk."""
    values = (value for node in backbone.graph for value in node.outputs)
    per_image = sum(_bytes_per_image(value) for value in values)
    return max(1, min(_LARGEST_CHUNK, _CHUNK_BYTES // max(per_image, 1)))


def _bytes_per_image(value: ir.Value) -> int:
    sizes = [] if value.shape is None else list(value.shape)[1:]
    return 4 * math.prod(size for size in sizes if isinstance(size, int))


def _finite(name: str, low: np.ndarray, high: np.ndarray) -> tuple[float, float]:
    if not np.isfinite([low, high]).all():
        raise GspDeployError(
            f"activation {name} reaches {np.ravel(low)[0]} to {np.ravel(high)[0]} on the "
            "calibration images; a model that overflows in float32 cannot be quantised"
        )
    return float(np.ravel(low)[0]), float(np.ravel(high)[0])

"""From a model to ONNX: backbone, pooling head, precision, certificate."""

from __future__ import annotations

from gsp_deploy.export.calibration import (
    Calibration,
    calibration_from_files,
    default_calibration,
)
from gsp_deploy.export.onnx_model import ExportedModel, Source, export_onnx
from gsp_deploy.export.options import ExportOptions
from gsp_deploy.export.quantisation import QuantisationImages, quantisation_images

__all__ = [
    "Calibration",
    "ExportOptions",
    "ExportedModel",
    "QuantisationImages",
    "Source",
    "calibration_from_files",
    "default_calibration",
    "export_onnx",
    "quantisation_images",
]

"""From a model to ONNX: backbone, pooling head, precision, certificate.

Names that need torch are imported on first use (PEP 562). The rest of the package, including the
average-pooling twin, works without torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from gsp_deploy.export.calibration import (
    Calibration,
    calibration_from_files,
    default_calibration,
)
from gsp_deploy.export.options import ExportOptions

if TYPE_CHECKING:
    from gsp_deploy.export.adoption import adopt_onnx, quantise_adopted
    from gsp_deploy.export.onnx_model import export_onnx
    from gsp_deploy.export.quantisation import QuantisationImages, quantisation_images
    from gsp_deploy.export.rewriting import rewrite_pooling
    from gsp_deploy.export.source import Source
    from gsp_deploy.export.translation import translations

__all__ = [
    "Calibration",
    "ExportOptions",
    "QuantisationImages",
    "Source",
    "adopt_onnx",
    "calibration_from_files",
    "default_calibration",
    "export_onnx",
    "quantisation_images",
    "quantise_adopted",
    "rewrite_pooling",
    "translations",
]

_HOMES = {
    "QuantisationImages": "gsp_deploy.export.quantisation",
    "Source": "gsp_deploy.export.source",
    "adopt_onnx": "gsp_deploy.export.adoption",
    "export_onnx": "gsp_deploy.export.onnx_model",
    "quantisation_images": "gsp_deploy.export.quantisation",
    "quantise_adopted": "gsp_deploy.export.adoption",
    "rewrite_pooling": "gsp_deploy.export.rewriting",
    "translations": "gsp_deploy.export.translation",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)

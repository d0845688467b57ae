"""From a model to ONNX: backbone, pooling head, precision, certificate."""

from __future__ import annotations

from gsp_deploy.export.onnx_model import ExportedModel, export_onnx
from gsp_deploy.export.options import ExportOptions

__all__ = ["ExportOptions", "ExportedModel", "export_onnx"]

"""Adopt an embedding network in ONNX that gsp-deploy did not export.

Call `adopt_onnx`. The graph's computation stays as it is. Its ends get the names and layouts of an
export, and the file gets a manifest, so that every command reads it.
"""

from __future__ import annotations

from gsp_deploy.export.adoption.adopting import adopt_onnx, image_input_of
from gsp_deploy.export.adoption.ends import ImageInput
from gsp_deploy.export.adoption.quantising import quantise_adopted
from gsp_deploy.export.adoption.resizing import copy_at_size

__all__ = ["ImageInput", "adopt_onnx", "copy_at_size", "image_input_of", "quantise_adopted"]

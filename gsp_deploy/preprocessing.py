"""From an image file to pixels of the model's size: the public name of `gsp_deploy.images`."""

from __future__ import annotations

from gsp_deploy.images.preprocessing import decode_image, fit_image, load_image

__all__ = ["decode_image", "fit_image", "load_image"]

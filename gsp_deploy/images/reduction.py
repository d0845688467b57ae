"""Decode large JPEG files at a fraction of their size, where the model needs far fewer pixels.

libjpeg can decode 1/2, 1/4 or 1/8 of the pixels of each side, by leaving out high frequencies. The
result is close to that of decoding everything and then resizing, but not equal: use it for both of
the embeddings that you compare, or for neither.
"""

from __future__ import annotations

import os
from typing import BinaryIO

import numpy as np

from gsp_deploy.config import PreprocessingSpec
from gsp_deploy.errors import UsageError
from gsp_deploy.images.decoding import decode_reduced
from gsp_deploy.images.geometry import crop_windows
from gsp_deploy.images.limits import MAX_PIXELS
from gsp_deploy.images.pillow_resize import FILTERS, resize_like_whole

# The decoder keeps at least this many times the pixels of each resized side, so that the resizing
# after it still averages over several pixels.
SPARE = 2
# Against decoding everything, of 255: about twice what photographs of 600 to 4,000 px differed by,
# in all orientations, pipelines and interpolations.
MEAN_TOLERANCE = 1.0
LARGEST_TOLERANCE = 24
# The same for embeddings, as a cosine distance: twice what photographs moved by in the two trained
# models under models/.
COSINE_TOLERANCE = 2e-3


def refuse_unaveraged(spec: PreprocessingSpec) -> None:
    """Raise `UsageError` if a model's images must be decoded whole.

    The pipeline `opencv` picks single pixels, so that it would show the difference.
    """
    if spec.pipeline == "opencv":
        raise UsageError(
            "the pipeline opencv resizes without averaging, so JPEG files must be decoded whole; "
            "leave out reduced decoding (--reduced-jpeg)"
        )


def fit_reduced(
    source: str | os.PathLike[str] | BinaryIO,
    spec: PreprocessingSpec,
    name: str | None = None,
    max_pixels: int = MAX_PIXELS,
) -> np.ndarray:
    """Decode and fit an image as `load_image` does, large JPEG files at a fraction of their size.

    Other files, and JPEG files that the model needs nearly whole, have the same pixels as there.

    Args:
        source, name, max_pixels: as for `decode_image`.
        spec: the model's pre-processing.

    Returns:
        uint8 `(height, width, 3)`, RGB, upright.

    Raises:
        DataError, ImageSizeError: as `decode_image` does.
        UsageError: the pipeline is `opencv`; see `refuse_unaveraged`.
    """
    refuse_unaveraged(spec)

    def least(size: tuple[int, int]) -> tuple[int, int]:
        across, down = crop_windows(size, spec)
        return min(size[0], SPARE * across.resized), min(size[1], SPARE * down.resized)

    found = decode_reduced(source, least, name, max_pixels)
    across, down = crop_windows(found.size, spec)
    if spec.pipeline == "pillow":
        left, right = across.within(found.box[0], found.box[2])
        top, bottom = down.within(found.box[1], found.box[3])
        size, resample = (spec.width, spec.height), FILTERS[spec.interpolation]
        return np.asarray(found.image.resize(size, resample, box=(left, top, right, bottom)))
    return np.asarray(resize_like_whole(found.image, across, down, spec.interpolation, found.box))

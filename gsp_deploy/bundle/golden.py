"""Golden vectors: images, and the model's embeddings of them from when it was packaged."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from gsp_deploy.artifact.bundle_manifest import Golden
from gsp_deploy.base.arrays import read_array
from gsp_deploy.base.progress import Announce
from gsp_deploy.config import ModelConfig, PreprocessingSpec
from gsp_deploy.errors import DataError, reason_of
from gsp_deploy.images.files import evenly_spaced, find_images
from gsp_deploy.images.preprocessing import decode_image, fit_image
from gsp_deploy.precision import tolerances_for

COUNT = 8
# Cosine distance that another machine's runtime, or the C++ library, may add to a float32
# embedding by rounding in another order.
LEAST_TOLERANCE = 1e-5
# Different from usual input sizes on both axes, so that the check covers resizing.
_PHOTOGRAPH_SIZE = (301, 199)
_LONGEST_SIDE = 320

FILES = Golden("golden/images.npy", "golden/embeddings.npy", "golden/photograph.png")


@dataclass(frozen=True)
class GoldenImages:
    """Images for a bundle's golden vectors.

    Attributes:
        images: uint8 `(n, H, W, 3)`, of the model's size.
        photograph: bytes of a PNG file; decoded and fitted to the model's size it is `images[0]`.
        source: the images' origin, in words.
    """

    images: np.ndarray
    photograph: bytes
    source: str


def built_in_images(config: ModelConfig, spec: PreprocessingSpec) -> GoldenImages:
    """Return crops of the photographs in scikit-image's wheel, for a model's config and size.

    Raises:
        MissingCapabilityError: scikit-image is not installed.
    """
    from gsp_deploy.data.photographs import photograph
    from gsp_deploy.export.calibration import default_calibration

    first = photograph("chelsea.png").resize(_PHOTOGRAPH_SIZE, Image.Resampling.LANCZOS)
    crops = default_calibration(config, COUNT - 1).inputs
    images = np.concatenate([fit_image(first, spec)[np.newaxis], crops])
    return GoldenImages(images, _as_png(first), "crops of photographs from scikit-image")


def images_of(
    paths: Sequence[str], spec: PreprocessingSpec, announce: Announce = lambda line: None
) -> GoldenImages:
    """Return up to 8 images from folders, files or patterns, evenly spaced over them.

    `announce` receives one line with the number of files that were skipped.

    Raises:
        DataError: there is no image, or one cannot be read.
    """
    chosen = evenly_spaced(find_images(paths, announce), COUNT)
    first = decode_image(chosen[0])
    first.thumbnail((_LONGEST_SIDE, _LONGEST_SIDE), Image.Resampling.LANCZOS)
    images = [fit_image(first, spec), *(fit_image(decode_image(file), spec) for file in chosen[1:])]
    return GoldenImages(np.stack(images), _as_png(first), f"{len(images)} of the images given")


def allowed_distance(precision: str) -> float:
    """Return the largest cosine distance to a golden embedding that passes in this precision."""
    return max(LEAST_TOLERANCE, tolerances_for(precision).max_cosine_distance)


def write_golden(folder: Path, golden: GoldenImages, embeddings: np.ndarray) -> None:
    """Write the three files listed in `FILES`; `embeddings` is `(n, D)`."""
    (folder / FILES.images).parent.mkdir(exist_ok=True)
    np.save(folder / FILES.images, golden.images)
    np.save(folder / FILES.embeddings, embeddings.astype(np.float32))
    (folder / FILES.photograph).write_bytes(golden.photograph)


def read_golden(folder: Path, golden: Golden) -> tuple[np.ndarray, np.ndarray]:
    """Return the images, uint8 `(n, H, W, 3)`, and their embeddings, float32 `(n, D)`.

    Raises:
        DataError: an array is damaged, or the two do not fit together.
    """
    try:
        images = read_array(folder / golden.images)
        embeddings = read_array(folder / golden.embeddings)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(
            f"{folder}: the golden arrays are damaged ({reason_of(error)}); copy the bundle again"
        ) from error
    if (
        images.ndim != 4
        or images.dtype != np.uint8
        or embeddings.dtype != np.float32
        or embeddings.ndim != 2
        or len(images) != len(embeddings)
        or not len(images)
    ):
        raise DataError(
            f"{folder}: expected golden images (n, H, W, 3) of uint8 and embeddings (n, D) of "
            f"float32, got {images.shape} of {images.dtype} and {embeddings.shape} of "
            f"{embeddings.dtype}"
        )
    return images, embeddings


def _as_png(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()

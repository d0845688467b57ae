"""Time the pre-processing of one image: decoding a JPEG, resizing it, normalising it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from gsp_deploy.benchmark.report import ImageStages
from gsp_deploy.benchmark.timing import Latency, Rounds, interleave
from gsp_deploy.config import PreprocessingSpec
from gsp_deploy.images.normalisation import normalise
from gsp_deploy.images.preprocessing import decode_image, fit_image

# The usual size of photographs in messengers and in data sets.
TYPICAL_SIZE = (640, 480)
QUALITY = 90
_OCTAVES = 8
# Gives a file of 74 kB; photographs of this size and quality have 60 to 90 kB.
OCTAVE_FALL = 0.7


def measure_image_stages(
    image: Path | None, spec: PreprocessingSpec, normalises_inside: bool, rounds: Rounds
) -> ImageStages:
    """Time the steps between an image file and the network's input.

    Args:
        image: an image file, or None for a synthetic JPEG of 640x480.
        spec: the model's pre-processing.
        normalises_inside: the graph takes pixels and normalises them itself.
        rounds: how many rounds to time.

    Raises:
        DataError: the image cannot be read.
    """
    with _image_file(image) as path:
        decoded = decode_image(path)
        pixels = fit_image(decoded, spec)[np.newaxis]
        tasks = [lambda: decode_image(path), lambda: fit_image(decoded, spec)]
        if not normalises_inside:
            tasks.append(lambda: normalise(pixels, spec))
        times = interleave(tasks, rounds)
        source = _describe(path, decoded, "synthetic" if image is None else image.name)
    decode, resize, *rest = (Latency.of(column) for column in times.T)
    return ImageStages(source, decode, resize, rest[0] if rest else None)


@contextmanager
def _image_file(image: Path | None) -> Iterator[Path]:
    if image is not None:
        yield image
        return
    with tempfile.TemporaryDirectory(prefix="gsp-bench-") as folder:
        path = Path(folder) / "synthetic.jpeg"
        synthetic_photograph().save(path, quality=QUALITY)
        yield path


def synthetic_photograph(seed: int = 0) -> Image.Image:
    """Return noise with a photograph's spectrum: each octave of detail has less contrast.

    The time to decode depends on the detail in the file, so white noise or a flat colour would give
    misleading times.
    """
    draw = np.random.default_rng(seed)
    width, height = TYPICAL_SIZE
    sum_of_octaves = np.zeros((height, width, 3))
    for octave in range(_OCTAVES):
        grid = draw.standard_normal((3 << octave, 4 << octave, 3)).astype(np.float32)
        sum_of_octaves += _enlarge(grid, width, height) * OCTAVE_FALL**octave
    scaled = 128 + 48 * sum_of_octaves / sum_of_octaves.std()
    return Image.fromarray(scaled.clip(0, 255).astype(np.uint8))


def _enlarge(grid: np.ndarray, width: int, height: int) -> np.ndarray:
    channels = [
        Image.fromarray(grid[:, :, channel]).resize((width, height), Image.Resampling.BICUBIC)
        for channel in range(3)
    ]
    return np.stack([np.asarray(channel) for channel in channels], axis=2)


def _describe(path: Path, image: Image.Image, name: str) -> str:
    kilobytes = round(path.stat().st_size / 1000)
    return f"{name} {path.suffix[1:].upper()} {image.width}x{image.height}, {kilobytes} kB"

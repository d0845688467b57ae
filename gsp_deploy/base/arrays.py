"""Read arrays from elsewhere, without more memory than the size of the file."""

from __future__ import annotations

import math
import os

import numpy as np
from numpy.lib import format as npy

from gsp_deploy.base.inputs import open_regular


def read_array(path: str | os.PathLike[str]) -> np.ndarray:
    """Return the array of a `.npy` file.

    The header's shape must match the file's length; this is checked before memory is allocated.
    An array of Python objects is refused, because reading it would unpickle.

    Raises:
        ValueError: the file is not a `.npy` file of numbers, or its length is wrong.
        OSError: the file cannot be read, or is not a regular file.
    """
    with open_regular(path) as stream:
        readers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
        version = npy.read_magic(stream)
        if version not in readers:
            raise ValueError(f"expected a .npy file of format 1.0 or 2.0, got {version}")
        shape, by_column, kind = readers[version](stream)
        if kind.hasobject:
            raise ValueError("expected numbers, got Python objects")
        promised = math.prod(shape) * kind.itemsize
        there = os.fstat(stream.fileno()).st_size - stream.tell()
        if min(shape, default=0) < 0 or promised != there:
            raise ValueError(
                f"the header promises {promised:,} bytes for shape {shape}, but {there:,} follow"
            )
        flat = np.frombuffer(stream.read(there), kind)
    return flat.reshape(shape, order="F" if by_column else "C")

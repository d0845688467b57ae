"""Reading arrays from elsewhere: no memory beyond what a file can fill."""

from __future__ import annotations

import math
import os

import numpy as np
from numpy.lib import format as npy

from gsp_deploy.base.inputs import open_regular


def read_array(path: str | os.PathLike[str]) -> np.ndarray:
    """Return the array of a `.npy` file whose length is what its header promises.

    The header is held against the file's own length before memory is asked for, and an array of
    Python objects, which would be unpickled, is refused.

    Raises:
        ValueError: it is no such file.
        OSError: it cannot be read, or is no regular file.
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
                f"the header promises {promised:,} bytes of shape {shape}, and {there:,} follow"
            )
        flat = np.frombuffer(stream.read(there), kind)
    return flat.reshape(shape, order="F" if by_column else "C")

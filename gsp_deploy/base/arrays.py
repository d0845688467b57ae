"""Read arrays from elsewhere, without more memory than the size of the file."""

from __future__ import annotations

import math
import os
import sys
from typing import BinaryIO

import numpy as np
from numpy.lib import format as npy

from gsp_deploy.base.inputs import open_regular


def read_array(path: str | os.PathLike[str]) -> np.ndarray:
    """Return the array of a `.npy` file.

    Raises:
        ValueError: the file is not a `.npy` file of numbers, or its length is wrong.
        OSError: the file cannot be read, or is not a regular file.
    """
    with open_regular(path) as stream:
        return array_from(stream, os.fstat(stream.fileno()).st_size)


def array_from(stream: BinaryIO, length: int) -> np.ndarray:
    """Return the array of a stream in the format `.npy`.

    The header's shape must match the stream's length; this is checked before memory is allocated.
    An array of Python objects is refused, because reading it would unpickle.

    Raises:
        ValueError: the stream has another format or length.
        OSError: the stream cannot be read.
    """
    readers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    version = npy.read_magic(stream)
    if version not in readers:
        raise ValueError(f"expected a .npy file of format 1.0 or 2.0, got {version}")
    shape, by_column, kind = readers[version](stream)
    if kind.hasobject:
        raise ValueError("expected numbers, got Python objects")
    promised = math.prod(shape) * kind.itemsize
    there = length - stream.tell()
    if min(shape, default=0) < 0 or max(shape, default=0) > sys.maxsize or promised != there:
        raise ValueError(
            f"the header promises {promised:,} bytes for shape {shape}, but {there:,} follow"
        )
    content = stream.read(there)
    if len(content) != there:
        raise ValueError(f"expected {there:,} bytes after the header, got {len(content):,}")
    flat = np.frombuffer(content, kind)
    return flat.reshape(shape, order="F" if by_column else "C")

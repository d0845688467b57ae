"""Read the IDX files of the MNIST family, gzip-compressed or raw."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np

from gsp_deploy.base.inputs import open_regular
from gsp_deploy.errors import DataError

_UNSIGNED_BYTE = 0x08
_MOST_DIMS = 8
# A limit, because a gzip file's unpacked size is unknown; the family's largest file has 188 MB.
_MOST_BYTES = 1 << 30


def read_idx(path: Path) -> np.ndarray:
    """Return the file's array, uint8, in the shape from its header.

    Raises:
        DataError: the file is missing or damaged, or does not contain unsigned bytes.
    """
    try:
        with open_regular(path) as raw:
            packed = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            if not packed:
                return _array(path, raw)
            with gzip.GzipFile(fileobj=raw) as unpacked:
                return _array(path, unpacked)
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read ({error}); install it again") from error


def _array(path: Path, stream: BinaryIO | gzip.GzipFile) -> np.ndarray:
    """Read the header, then its number of bytes plus one, to detect a file that is too long."""
    head = stream.read(4)
    if len(head) < 4 or head[:2] != b"\0\0" or head[2] != _UNSIGNED_BYTE or head[3] > _MOST_DIMS:
        raise DataError(f"{path}: expected an IDX file of unsigned bytes, got {head!r}")
    sizes = stream.read(4 * head[3])
    if len(sizes) < 4 * head[3]:
        raise DataError(f"{path}: the file ends within its header; install it again")
    shape = struct.unpack(f">{head[3]}I", sizes)
    promised = math.prod(shape)
    data = stream.read(min(promised, _MOST_BYTES) + 1)
    if len(data) != promised:
        raise DataError(
            f"{path}: expected {shape} bytes of content, got "
            f"{'more' if len(data) > promised else len(data)}; install it again"
        )
    return np.frombuffer(data, np.uint8).reshape(shape)

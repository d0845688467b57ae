"""The MNIST family's IDX files, gzip-compressed or raw."""

from __future__ import annotations

import gzip
import struct
import zlib
from pathlib import Path

import numpy as np

from gsp_deploy.errors import DataError

_UNSIGNED_BYTE = 0x08


def read_idx(path: Path) -> np.ndarray:
    """Return the file's array, uint8, of the shape that its header states.

    Raises:
        DataError: the file is missing, damaged, or holds something other than unsigned bytes.
    """
    try:
        raw = path.read_bytes()
        data = gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read ({error}); install it again") from error
    if len(data) < 4 or data[:2] != b"\0\0" or data[2] != _UNSIGNED_BYTE:
        raise DataError(f"{path}: expected an IDX file of unsigned bytes, got {data[:4]!r}")
    header = 4 + 4 * data[3]
    if len(data) < header:
        raise DataError(f"{path}: the file ends within its header; install it again")
    shape = struct.unpack(f">{data[3]}I", data[4:header])
    if len(data) - header != np.prod(shape, dtype=np.int64):
        raise DataError(
            f"{path}: expected {shape} bytes of content, got {len(data) - header}; install it again"
        )
    return np.frombuffer(data, np.uint8, offset=header).reshape(shape)

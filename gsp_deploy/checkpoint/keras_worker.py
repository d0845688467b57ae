"""Copy the weights of a Keras .h5 into a safetensors file; `keras.py` runs this as a process.

A damaged file that crashes HDF5 ends only this process, whose memory is limited. Only plain arrays
inside the file are read.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from gsp_deploy.base.memory import limit_memory
from gsp_deploy.base.worker import LACKS_PACKAGE

_MEMORY = 8 << 30
_MOST_DATASETS = 10_000


def main(path: str, output: str) -> int:
    """Write the datasets below `model_weights` and the file's `model_config`; return a code."""
    try:
        import h5py
        from safetensors.numpy import save_file
    except ModuleNotFoundError:
        return LACKS_PACKAGE
    limit_memory(_MEMORY)
    try:
        with h5py.File(path, "r") as file:
            config = file.attrs["model_config"]
            weights = _Weights(os.path.getsize(path))
            weights.collect(file["model_weights"])
        text = config.decode() if isinstance(config, bytes) else str(config)
        save_file(weights.tensors, output, {"model_config": text})
    except Exception as error:  # a damaged file can raise any type in h5py
        print(f"{type(error).__name__}: {' '.join(str(error).split())[:200]}", file=sys.stderr)
        return 1
    return 0


class _Weights:
    """The arrays below a group of an HDF5 file.

    Each object has one name and each array its bytes in the file. A small file could otherwise ask
    for any number of bytes and visits.

    Attributes:
        tensors: the arrays by their path.
    """

    def __init__(self, file_size: int) -> None:
        self.tensors: dict[str, Any] = {}
        self._left = file_size  # bytes that arrays may still have
        self._seen: set[int] = set()  # addresses of objects

    def collect(self, group: Any, prefix: str = "") -> None:
        """Add a group's arrays, and those of the groups in it."""
        import h5py

        for name in group:
            path = f"{prefix}{name}"
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise TypeError(f"{path} is a link")
            item = group[name]
            address = h5py.h5o.get_info(item.id).addr
            if address in self._seen:
                raise ValueError(f"an object has two names, and one is {path}")
            self._seen.add(address)
            if isinstance(item, h5py.Group):
                self.collect(item, f"{path}/")
            else:
                self._add(path, item)

    def _add(self, path: str, item: Any) -> None:
        import numpy as np

        stored = item.id.get_storage_size()
        if item.external or item.is_virtual or item.chunks or stored != item.nbytes:
            raise ValueError(f"{path} is not a plain array")
        self._left -= stored
        if self._left < 0:
            raise ValueError("its arrays have more bytes than the file")
        if len(self.tensors) >= _MOST_DATASETS:
            raise ValueError(f"more than {_MOST_DATASETS} arrays")
        if item.dtype.kind == "f":
            self.tensors[path] = np.ascontiguousarray(item[()], dtype=np.float32)
        if item.dtype.kind == "b":  # whether the head's prototypes are set
            self.tensors[path] = np.ascontiguousarray(item[()], dtype=np.bool_)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

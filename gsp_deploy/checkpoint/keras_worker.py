"""Copy the weights of a Keras .h5 into a safetensors file; `keras.py` runs this as a process.

A damaged file that crashes HDF5 ends only this process, whose memory is limited. Only plain arrays
inside the file are read.
"""

from __future__ import annotations

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
            tensors: dict[str, Any] = {}
            _collect(h5py, file["model_weights"], "", tensors)
        text = config.decode() if isinstance(config, bytes) else str(config)
        save_file(tensors, output, {"model_config": text})
    except Exception as error:  # a damaged file can raise any type in h5py
        print(f"{type(error).__name__}: {' '.join(str(error).split())[:200]}", file=sys.stderr)
        return 1
    return 0


def _collect(h5py: Any, group: Any, prefix: str, tensors: dict[str, Any]) -> None:
    import numpy as np

    for name in group:
        link = group.get(name, getlink=True)
        if not isinstance(link, h5py.HardLink):
            raise TypeError(f"{prefix}{name} is a link")
        item = group[name]
        if isinstance(item, h5py.Group):
            _collect(h5py, item, f"{prefix}{name}/", tensors)
            continue
        stored = item.id.get_storage_size()
        if item.external or item.is_virtual or item.chunks or stored not in (0, item.nbytes):
            raise ValueError(f"{prefix}{name} is not a plain array")
        if len(tensors) >= _MOST_DATASETS:
            raise ValueError(f"more than {_MOST_DATASETS} arrays")
        if item.dtype.kind == "f":
            tensors[f"{prefix}{name}"] = np.ascontiguousarray(item[()], dtype=np.float32)
        if item.dtype.kind == "b":  # whether the head's prototypes are set
            tensors[f"{prefix}{name}"] = np.ascontiguousarray(item[()], dtype=np.bool_)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

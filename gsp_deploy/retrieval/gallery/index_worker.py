"""Read an index and search it once; `trial.py` runs this file as a process.

A damaged file that crashes faiss ends only this process, whose memory is limited. The file is
mapped, so that it may be larger than the memory.
"""

from __future__ import annotations

import sys

from gsp_deploy.base.memory import limit_memory
from gsp_deploy.base.worker import LACKS_PACKAGE

_QUERIES = 16
# Enough results to see every vector of a small index: a damaged one may name vectors that it lacks.
_RESULTS = 10_000


def main(path: str, memory: int) -> int:
    """Print the number of vectors and their length; return the exit code."""
    try:
        import faiss
        import numpy as np
    except ModuleNotFoundError:
        return LACKS_PACKAGE
    faiss.omp_set_num_threads(1)  # each thread's stack counts as memory
    limit_memory(memory)
    try:
        index = faiss.read_index(path, faiss.IO_FLAG_MMAP_IFC)
        queries = np.random.default_rng(0).standard_normal((_QUERIES, index.d), dtype=np.float32)
        if cells := getattr(faiss.try_extract_index_ivf(index), "nlist", None):
            faiss.ParameterSpace().set_index_parameter(index, "nprobe", cells)
        _, places = index.search(queries, max(1, min(_RESULTS, index.ntotal)))
        if places.min() < -1 or places.max() >= index.ntotal:
            raise ValueError("a search finds vectors that the index does not have")
    except Exception as error:  # a damaged file can raise any type in faiss
        print(f"{type(error).__name__}: {' '.join(str(error).split())[:200]}", file=sys.stderr)
        return 1
    print(index.ntotal, index.d)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2])))

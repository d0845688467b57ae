"""Try an untrusted index in a process of its own, because a damaged one can crash faiss."""

from __future__ import annotations

from pathlib import Path

from gsp_deploy.base.inputs import require_regular
from gsp_deploy.base.platforms import install_line
from gsp_deploy.base.worker import WorkerError, WorkerLacksPackageError, run_worker
from gsp_deploy.errors import MissingCapabilityError

# 100 MB a second, and a minute to start: a limit for a file that makes faiss hang.
_BYTES_A_SECOND, _STARTING = 100_000_000, 60
# faiss needs about the file's size; a false length inside the file asks for far more.
_MEMORY = 2 << 30
_WORKER = Path(__file__).with_name("index_worker.py")


def try_index(path: Path) -> tuple[int, int]:
    """Read an index and search it once, in another process; return its vectors and their length.

    This finds damage and most attacks, and costs one more reading of the file. It is no proof: a
    file may still be made to harm another search.

    Raises:
        ValueError: faiss cannot read or search it, crashes, takes too long or too much memory.
        MissingCapabilityError: faiss is not installed.
    """
    require_regular(path)
    size = path.stat().st_size
    seconds = _STARTING + size / _BYTES_A_SECOND
    try:
        printed = run_worker(_WORKER, path, str(_MEMORY + 2 * size), seconds=seconds)
        count, length = map(int, printed.split())
    except WorkerLacksPackageError as error:
        raise MissingCapabilityError(f"a gallery needs faiss: {install_line('search')}") from error
    except WorkerError as error:
        raise ValueError(f"faiss cannot read {path.name}: {error}") from error
    return count, length

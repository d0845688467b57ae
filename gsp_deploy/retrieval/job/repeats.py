"""Find an id that occurs twice in a whole data set, with 8 bytes of memory per image at most."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as parquet

from gsp_deploy.base.inputs import open_regular
from gsp_deploy.retrieval.dataset.layout import Part
from gsp_deploy.retrieval.job.worker import repeated_id

# Hashes in memory at once; a larger data set is read several times.
MOST_HASHES = 1 << 25


def refuse_repeated_ids(folder: Path, parts: Iterable[Part]) -> None:
    """Raise `DataError` if two images of a data set have the same id.

    One pass compares hashes of a share of the ids; only if two are equal are the ids compared.
    """
    parts = list(parts)
    shares = sum(part.images for part in parts) // MOST_HASHES + 1
    for share in range(shares):
        found = [np.zeros(0, np.int64), *_hashes(folder, parts, share, shares)]
        hashes = np.sort(np.concatenate(found))
        if len(twice := hashes[1:][hashes[1:] == hashes[:-1]]):
            _compare(folder, parts, set(twice.tolist()))


def _hashes(folder: Path, parts: list[Part], share: int, shares: int) -> Iterator[np.ndarray]:
    for part in parts:
        found = np.fromiter(map(hash, _ids(folder, part)), np.int64, part.images)
        yield found[found % shares == share]


def _compare(folder: Path, parts: list[Part], suspects: set[int]) -> None:
    seen: dict[str, str] = {}
    for part in parts:
        for name in _ids(folder, part):
            if hash(name) in suspects:
                if name in seen:
                    raise repeated_id(name, f"{seen[name]} and {part.name}")
                seen[name] = part.name


def _ids(folder: Path, part: Part) -> list[str]:
    if not part.images:
        return []
    with open_regular(folder / part.name) as stream:  # pyarrow opens no path that is not UTF-8
        return parquet.ParquetFile(stream).read(columns=["id"])["id"].to_pylist()

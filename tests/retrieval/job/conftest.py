"""Images, and runs of `embed` on them in this process."""

from __future__ import annotations

import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gsp_deploy.retrieval.job import EmbeddingRun, Job, Shard, run_here
from gsp_deploy.retrieval.job.place import ThisMachine
from gsp_deploy.retrieval.job.settings import Wanted
from gsp_deploy.runtime import SessionOptions
from gsp_deploy.sources import Columns, Sources

COUNT, SHARD_SIZE = 37, 8


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """37 images in two folders; one is broken."""
    place = tmp_path_factory.mktemp("pictures")
    for number in range(COUNT):
        folder = place / ("even" if number % 2 == 0 else "odd")
        folder.mkdir(exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (40, 36, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:02}.png")
    (place / "even" / "06.png").write_bytes(b"no image")
    return place


@pytest.fixture(scope="session")
def prepare(tiny_export: str) -> Callable[..., EmbeddingRun]:
    """Return a function that prepares a run."""

    def run(
        folder: Path, *sources: object, shard: str = "0/1", force: bool = False, **changes: object
    ) -> EmbeddingRun:
        asked = {
            "storage": "float32", "also": (), "batch": 4, "shard_size": SHARD_SIZE,
            "columns": Columns(), **changes,
        }  # fmt: skip
        options = SessionOptions("cpu", threads=1)
        place = ThisMachine("cpu", 1)
        settings = place.settings_of(Path(tiny_export), options, Wanted(**asked))
        job = Job(Path(tiny_export), options, settings, folder, decoders=2)
        found = Sources(map(str, sources), settings.shard_size, asked["columns"])
        return EmbeddingRun(job, found, Shard.parse(shard), force)

    return run


def tar_of(folder: Path, archive: Path, most: int | None = None) -> Path:
    """Pack a folder's images in sorted order."""
    with tarfile.open(archive, "w") as packed:
        for file in sorted(folder.rglob("*.png"))[:most]:
            packed.add(file, file.relative_to(folder).as_posix())
    return archive


def complete(run: EmbeddingRun, workers: int = 1):
    """Do a whole run and return its manifest, or None if other shards are missing."""
    for _ in run.parts(lambda job, tasks: run_here(job, tasks, workers)):
        pass
    return run.finish()


def contents(folder: Path) -> dict[str, bytes]:
    """Return the bytes of every file that is not hidden."""
    return {
        path.name: path.read_bytes()
        for path in sorted(folder.iterdir())
        if not path.name.startswith(".")
    }

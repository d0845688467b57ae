"""On Ray: a local cluster of two workers, one of which is killed while it embeds."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

ray = pytest.importorskip("ray", reason="needs ray[data], from the extra ray")
pytest.importorskip("ray.data", reason="needs ray[data], from the extra ray")

from gsp_deploy.errors import SourceError, UsageError  # noqa: E402
from gsp_deploy.retrieval.job.ray_place import RayCluster  # noqa: E402
from gsp_deploy.retrieval.job.settings import Wanted  # noqa: E402
from gsp_deploy.runtime import SessionOptions  # noqa: E402
from gsp_deploy.sources import Columns  # noqa: E402

from .conftest import COUNT, complete, contents, tar_of  # noqa: E402

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="finds Ray's workers in /proc"),
]


@pytest.fixture(scope="module")
def cluster() -> Iterator[RayCluster]:
    """A cluster of two workers, which the whole module uses."""
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    ray.data.DataContext.get_current().enable_progress_bars = False
    yield RayCluster("cpu", workers=2)
    ray.shutdown()


def pools() -> list[psutil.Process]:
    """Return the processes of the actors that embed."""
    own = psutil.Process().children(recursive=True)
    return [process for process in own if "MapWorker" in " ".join(process.cmdline() or [""])]


def kill_one(folder: Path, most: int, killed: list[int]) -> None:
    """Wait for the first parts, and kill a worker while others are missing."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        count = len(list(folder.glob("part-*"))) if folder.exists() else 0
        if 3 <= count < most and (found := pools()):
            os.kill(found[0].pid, signal.SIGKILL)
            killed += [found[0].pid, len(list(folder.glob("part-*")))]
            return
        time.sleep(0.002)


def test_a_killed_worker_changes_no_byte(
    cluster: RayCluster, prepare, pictures: Path, tmp_path: Path
) -> None:
    complete(prepare(tmp_path / "local", pictures, shard_size=1))
    killed: list[int] = []
    killer = threading.Thread(target=kill_one, args=(tmp_path / "out", COUNT, killed))
    killer.start()
    run = prepare(tmp_path / "out", pictures, shard_size=1)
    assert sum(1 for _ in run.parts(cluster.run)) == COUNT
    killer.join()
    victim, parts_then = killed
    assert not psutil.pid_exists(victim)
    assert parts_then < COUNT
    assert run.finish() is not None
    assert contents(tmp_path / "out") == contents(tmp_path / "local")


def test_pieces_of_a_tar_and_errors_come_back(
    cluster: RayCluster, prepare, pictures: Path, tmp_path: Path, tiny_export: str
) -> None:
    archive = tar_of(pictures, tmp_path / "shard.tar")
    complete(prepare(tmp_path / "local", archive))
    run = prepare(tmp_path / "out", archive)
    assert sum(1 for _ in run.parts(cluster.run)) == 5
    assert run.finish() is not None
    assert contents(tmp_path / "out") == contents(tmp_path / "local")

    archive.write_bytes(archive.read_bytes()[:5000])
    with pytest.raises(SourceError, match="not a whole tar"):
        list(prepare(tmp_path / "cut", archive).parts(cluster.run))
    wanted = Wanted("float32", ("weights",), 4, 8, Columns())
    with pytest.raises(UsageError, match="has no output 'weights'"):
        cluster.settings_of(Path(tiny_export), SessionOptions("cpu", threads=1), wanted)

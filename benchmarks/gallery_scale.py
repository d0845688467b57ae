"""A gallery of a million embeddings: how long it takes, how much memory, what it finds.

python benchmarks/gallery_scale.py

The embeddings are drawn: things that look alike are clumps on a surface of few dimensions, with
noise in all of them. `index` holds queries out to choose and to measure the search.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from gsp_deploy import PreprocessingSpec
from gsp_deploy.metrics import unit_rows
from gsp_deploy.retrieval.identity import ModelIdentity

BLOCK = 50_000
CLUMPS, SURFACE, SPREAD, NOISE = 20_000, 24, 0.6, 0.05
TIMED = 500


def drawn(count: int, dim: int, seed: int) -> np.ndarray:
    """Return unit vectors `(count, dim)`; all seeds share their clumps."""
    shared, own = np.random.default_rng(0), np.random.default_rng(seed)
    centres = shared.standard_normal((CLUMPS, SURFACE), dtype=np.float32)
    surface = shared.standard_normal((SURFACE, dim), dtype=np.float32) / np.sqrt(SURFACE)
    place = centres[own.integers(0, CLUMPS, count)]
    place += SPREAD * own.standard_normal(place.shape, dtype=np.float32)
    return unit_rows(place @ surface + NOISE * own.standard_normal((count, dim), dtype=np.float32))


def write_table(path: Path, count: int, dim: int) -> None:
    """Write embeddings and their ids as `embed` does for a `.npy`."""
    table = np.lib.format.open_memmap(path, "w+", np.float32, (count, dim))
    for start in range(0, count, BLOCK):
        table[start : start + BLOCK] = drawn(min(BLOCK, count - start), dim, 1 + start)
    table.flush()
    ids = "".join(f"photos/{number:09}.jpg\n" for number in range(count))
    path.with_suffix(".ids.txt").write_text(ids)


def identity(dim: int) -> ModelIdentity:
    """Return a model of this length."""
    return ModelIdentity("m.onnx", "1" * 64, None, "fp32", dim, None, PreprocessingSpec(32, 32))


def build(folder: Path, asked: argparse.Namespace) -> dict[str, Any]:
    """Index the table, as `index` does, and return what was measured."""
    from gsp_deploy.retrieval.dataset import open_embeddings
    from gsp_deploy.retrieval.gallery import gallery_from, write_gallery

    start = time.perf_counter()
    stored = open_embeddings(folder / "table.npy")
    gallery, _ = gallery_from(stored, asked.kind, identity(asked.dim), asked.recall)
    write_gallery(gallery, folder / "gallery")
    assert gallery.recall is not None
    assert gallery.trade is not None
    return {
        "build_seconds": time.perf_counter() - start,
        "recall_at_10": str(gallery.recall.at_10),
        "recall": gallery.recall.at_10.value,
        "search": gallery.trade.chosen.words,
        "build_peak_gib": _peak_gib(),
    }


def search(folder: Path, asked: argparse.Namespace) -> dict[str, Any]:
    """Open the gallery, search it with one query at a time, and return what was measured."""
    from gsp_deploy.retrieval.gallery import open_gallery

    queries = drawn(TIMED, asked.dim, 0)
    before = _own_gib()
    start = time.perf_counter()
    gallery = open_gallery(folder / "gallery")
    opening, times = time.perf_counter() - start, []
    for query in queries:
        start = time.perf_counter()
        gallery.search(identity(asked.dim), query[None], 10)
        times.append(1e3 * (time.perf_counter() - start))
    return {
        "open_seconds": opening,
        "p50_ms": float(np.percentile(times, 50)),
        "p99_ms": float(np.percentile(times, 99)),
        "search_peak_gib": _peak_gib(),
        "own_gib": _own_gib() - before,
        "file_gib": (folder / "gallery" / "index.faiss").stat().st_size / 2**30,
    }


def _peak_gib() -> float:
    """Peak resident memory of this process and, added, of its largest child."""
    users = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return sum(resource.getrusage(user).ru_maxrss for user in users) / 2**20


def _own_gib() -> float:
    """Memory that is no mapped file's."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 2**20


STAGES = {"build": build, "search": search}


def measured(stage: str, folder: Path, asked: argparse.Namespace) -> dict[str, Any]:
    """Run a stage in a process of its own, because its memory is measured."""
    given = {"dim": asked.dim, "kind": asked.kind, "recall": asked.recall}
    options = [text for name, value in given.items() for text in (f"--{name}", str(value))]
    command = [sys.executable, __file__, "--stage", stage, "--folder", str(folder), *options]
    found: dict[str, Any] = json.loads(subprocess.check_output(command))
    return found


def main() -> None:
    """Print one row, and fail if the aims are missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--kind", default="ivf-pq")
    parser.add_argument("--recall", type=float, default=0.96)
    parser.add_argument("--stage", choices=STAGES)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    if asked.stage:
        print(json.dumps(STAGES[asked.stage](asked.folder, asked)))
        return
    from conditions import conditions, publish  # PyTorch is no part of the stages' memory

    threads = int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1))
    about = conditions(threads, images=asked.images, dim=asked.dim, kind=asked.kind)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_table(folder / "table.npy", asked.images, asked.dim)
        found = {**measured("build", folder, asked), **measured("search", folder, asked)}
    columns = ("built in, s", "peak GiB", "search", "recall@10", "p50, ms", "p99, ms",
               "index GiB", "own GiB of an open gallery")  # fmt: skip
    row = [f"{found['build_seconds']:.0f}", f"{found['build_peak_gib']:.2f}", found["search"],
           found["recall_at_10"], f"{found['p50_ms']:.1f}", f"{found['p99_ms']:.1f}",
           f"{found['file_gib']:.2f}", f"{found['own_gib']:.2f}"]  # fmt: skip
    publish("gallery-scale", about, [found], columns, [row], asked.json)
    aims = found["recall"] >= 0.95 and found["p50_ms"] < 20 and found["build_peak_gib"] < 4
    if not aims:
        raise SystemExit("missed: recall@10 of 0.95, p50 below 20 ms, or 4 GiB")


if __name__ == "__main__":
    main()

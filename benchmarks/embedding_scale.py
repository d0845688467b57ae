"""Does `embed` run in constant memory? Streams many small images in tar files into a data set.

python benchmarks/embedding_scale.py --images 1000000
"""

from __future__ import annotations

import argparse
import io
import json
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
from conditions import conditions, publish
from PIL import Image
from soak import SIDE, tiny_model

DISTINCT = 997  # images that are really drawn; the tar files repeat them under other names
EVERY = 0.2  # seconds between two looks at the memory
MARKS = 10


def drawn() -> list[bytes]:
    """Return small JPEG files."""
    files = []
    for number in range(DISTINCT):
        pixels = np.random.default_rng(number).integers(0, 256, (4, 4, 3), dtype=np.uint8)
        stream = io.BytesIO()
        Image.fromarray(pixels).resize((SIDE * 2, SIDE * 2), Image.Resampling.BICUBIC).save(
            stream, "JPEG"
        )
        files.append(stream.getvalue())
    return files


def write_tars(folder: Path, images: int, tars: int) -> None:
    """Write the images into tar files of equal length."""
    files = drawn()
    for tar in range(tars):
        with tarfile.open(folder / f"{tar:05}.tar", "w") as archive:
            for number in range(tar, images, tars):
                member = tarfile.TarInfo(f"{number:09}.jpg")
                content = files[number % DISTINCT]
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))


def watched(command: list[str]) -> tuple[float, list[float], str]:
    """Run a command; return its seconds, its processes' resident MiB over time, and its stdout.

    Memory that processes share counts once for each of them, so the sum is an upper bound.
    """
    start = time.perf_counter()
    with psutil.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        seen = list(_memory(process))
        out = process.stdout.read()
    if process.returncode:
        raise SystemExit(f"embed failed with exit code {process.returncode}")
    return time.perf_counter() - start, seen, out


def _memory(process: psutil.Popen) -> Iterator[float]:
    while process.poll() is None:
        total = 0
        try:
            for one in (process, *process.children(recursive=True)):
                total += one.memory_info().rss
        except psutil.NoSuchProcess:
            continue
        yield total / 2**20
        time.sleep(EVERY)


def main() -> None:
    """Print images per second and the memory along the way."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--tars", type=int, default=20)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    about = conditions(1, images=asked.images, tars=asked.tars, workers=asked.workers)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_tars(folder, asked.images, asked.tars)
        model = tiny_model(folder / "tiny.onnx")
        out = folder / "out"
        command = [sys.executable, "-c", "from gsp_deploy_cli.main import main; main()", "embed"]
        command += [str(model), f"{folder}/*.tar", "-o", str(out), "--json"]
        seconds, seen, document = watched([*command, "--workers", str(asked.workers)])
        told = json.loads(document)
        assert (told["images"], told["failures"]) == (asked.images, 0), told
        stored = sum(file.stat().st_size for file in out.iterdir())
    results = [
        {
            "images": asked.images,
            "seconds": round(seconds, 1),
            "images_per_second": round(asked.images / seconds),
            "peak_mib": round(max(seen)),
            "mib": [round(seen[len(seen) * k // MARKS]) for k in range(1, MARKS)],
            "bytes_per_image": round(stored / asked.images, 1),
        }
    ]
    figures = results[0]
    row = [
        f"{asked.images:,}",
        str(figures["images_per_second"]),
        str(figures["peak_mib"]),
        ", ".join(map(str, figures["mib"])),
    ]
    columns = ("images", "images/s", "peak MiB", "MiB along the way")
    publish("embedding-scale", about, results, columns, [row], asked.json)


if __name__ == "__main__":
    main()

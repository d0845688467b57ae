"""Embed a folder of JPEG files end to end, against a hand-written loop on a raw runtime.

`gsp-deploy embed` and the loop run as processes of their own, from the start of Python to the
written array. In each round every one of them runs once, and the next round starts with another
one. The loop (`embed_loop.py`) is what one would write with Pillow and OpenVINO (`--runtime`), and
the best of `--workers` counts. Both decode every pixel and compute in float32. `--command` gives
further options to `embed`.
"""

from __future__ import annotations

import argparse
import resource
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from conditions import conditions, publish, spread

from gsp_deploy import EmbeddingModel, GSPConfig, ModelConfig, PreprocessingSpec
from gsp_deploy.base.cores import available_cores
from gsp_deploy.data.photographs import photograph
from gsp_deploy.export import export_onnx
from gsp_deploy.model import feature_channels

SPEC = PreprocessingSpec(224, 224, crop_ratio=0.875)
PHOTOGRAPHS = ("chelsea.png", "rocket.jpg", "coffee.png", "astronaut.png")
LOOP = Path(__file__).with_name("embed_loop.py")
CLI = [sys.executable, "-m", "gsp_deploy_cli.main"]


def main() -> None:
    """Measure both `--runs` times in turns, and print the ratios' median and spread."""
    asked = _arguments()
    about = conditions(
        asked.threads,
        images=asked.images,
        batch=asked.batch,
        runs=asked.runs,
        runtime=asked.runtime,
    )
    with tempfile.TemporaryDirectory() as folder:
        model, images = _model(asked.backbone, Path(folder)), Path(folder) / "images"
        _write_images(images, asked.images, asked.side)
        results = _measured(model, images, asked)
    columns = ("what", "seconds", "images/s", "cores busy", "time / best loop")
    rows = [
        (r["what"], *(spread(r[k], 2) for k in ("seconds", "images_per_second", "busy", "ratio")))
        for r in results
    ]
    publish("embed_folder", about, results, columns, rows, asked.json)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backbone", default="resnet50")
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--side", type=int, default=640, help="longer side of the JPEG files")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--threads", type=int, default=available_cores())
    parser.add_argument("--runtime", default="openvino", choices=("openvino", "onnxruntime"))
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--command", default="", help="further options of `gsp-deploy embed`")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def _model(backbone: str, folder: Path) -> Path:
    torch.manual_seed(0)
    head = GSPConfig(feature_channels(backbone, {}, SPEC))
    model = EmbeddingModel(ModelConfig(backbone, head, SPEC)).eval()
    return export_onnx(model, folder / "model.onnx").path


def _write_images(folder: Path, count: int, side: int) -> None:
    """Write crops of photographs as JPEG files."""
    folder.mkdir()
    photos, draw = [photograph(name) for name in PHOTOGRAPHS], np.random.default_rng(0)
    for index in range(count):
        photo = photos[index % len(photos)]
        size = min(photo.size) * draw.uniform(0.5, 1)
        left, top = (draw.uniform(0, have - size) for have in photo.size)
        crop = photo.resize((side, side * 3 // 4), box=(left, top, left + size, top + size * 3 / 4))
        crop.save(folder / f"{index:05d}.jpg", quality=90)


def _measured(model: Path, images: Path, asked: argparse.Namespace) -> list[dict[str, Any]]:
    """Time every command in turns; check that all wrote the same embeddings."""
    out = images.parent
    options = ["--batch", str(asked.batch), "--threads", str(asked.threads)]
    options += ["--runtime", asked.runtime]
    ours = [*CLI, "embed", str(model), str(images), "-o", str(out / "ours.npy"), "--force"]
    commands = {"gsp-deploy embed": [*ours, *options, *shlex.split(asked.command)]}
    for workers in asked.workers:
        loop = [str(model), str(images), str(out / f"loop{workers}.npy")]
        command = [sys.executable, str(LOOP), asked.runtime, *loop, str(workers), str(asked.batch)]
        commands[f"loop, {workers} workers"] = command
    taken = [
        {name: _timed(commands[name]) for name in _rotated(list(commands), turn)}
        for turn in range(asked.runs)
    ]
    expected = np.load(out / f"loop{asked.workers[0]}.npy")
    worst = (1 - (np.load(out / "ours.npy") * expected).sum(axis=1)).max()
    if worst > 1e-3:  # Pillow versions resize the axes in different orders
        sys.exit(f"the embeddings differ by a cosine distance of {worst:.1e}")
    best = [min(s for name, (s, _) in run.items() if "loop" in name) for run in taken]
    return [_result(name, [run[name] for run in taken], best, asked.images) for name in commands]


def _rotated(names: list[str], turn: int) -> list[str]:
    first = turn % len(names)
    return names[first:] + names[:first]


def _timed(command: list[str]) -> tuple[float, float]:
    """Run a command; return its seconds and the processor seconds that it took."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _result(
    name: str, taken: list[tuple[float, float]], best: list[float], images: int
) -> dict[str, Any]:
    return {
        "what": name,
        "seconds": [seconds for seconds, _ in taken],
        "images_per_second": [images / seconds for seconds, _ in taken],
        "busy": [used / seconds / available_cores() for seconds, used in taken],
        "ratio": [seconds / least for (seconds, _), least in zip(taken, best, strict=True)],
    }


if __name__ == "__main__":
    main()

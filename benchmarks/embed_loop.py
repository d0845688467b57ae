"""Embed a folder of images as one would by hand: Pillow in threads, then a raw runtime.

Arguments: RUNTIME (openvino or onnxruntime) MODEL FOLDER OUT WORKERS BATCH. It imports nothing
else, so that it starts fast.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

SIDE, RESIZED = 224, 256
MEAN, STD = np.float32((0.485, 0.456, 0.406)), np.float32((0.229, 0.224, 0.225))


def main(runtime: str, model: str, folder: str, out: str, workers: int, batch: int) -> None:
    """Embed all files of the folder in order; threads prepare the next ones."""
    files = sorted(os.listdir(folder))
    with ThreadPoolExecutor(workers) as pool:
        inputs = pool.map(partial(load, Path(folder)), files)
        sizes = [len(files[start : start + batch]) for start in range(0, len(files), batch)]
        batches = (np.stack([next(inputs) for _ in range(size)]) for size in sizes)
        np.save(out, np.concatenate(RUNTIMES[runtime](model, batches)))


def run_onnxruntime(model: str, batches: Iterator[np.ndarray]) -> list[np.ndarray]:
    """Return the embeddings of every batch, one batch after the other."""
    import onnxruntime

    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return [session.run(["embedding"], {"images": batch})[0] for batch in batches]


def run_openvino(model: str, batches: Iterator[np.ndarray]) -> list[np.ndarray]:
    """Return the embeddings of every batch; OpenVINO chooses how many run at once, in float32."""
    import openvino

    settings = {"PERFORMANCE_HINT": "THROUGHPUT", "INFERENCE_PRECISION_HINT": "f32"}
    queue = openvino.AsyncInferQueue(openvino.Core().compile_model(model, "CPU", settings))
    found: dict[int, np.ndarray] = {}

    def keep(request: openvino.InferRequest, place: int) -> None:
        found[place] = request.get_tensor("embedding").data.copy()

    queue.set_callback(keep)
    for place, batch in enumerate(batches):
        queue.start_async({"images": batch}, place)
    queue.wait_all()
    return [found[place] for place in range(len(found))]


RUNTIMES = {"onnxruntime": run_onnxruntime, "openvino": run_openvino}


def load(folder: Path, name: str) -> np.ndarray:
    """Return what torchvision's Resize, CenterCrop, ToTensor and Normalize return."""
    image = Image.open(folder / name).convert("RGB")
    scale = RESIZED / min(image.size)
    width, height = (int(side * scale) for side in image.size)
    image = image.resize((width, height), Image.Resampling.BILINEAR)
    left, top = (round((have - SIDE) / 2) for have in image.size)
    image = image.crop((left, top, left + SIDE, top + SIDE))
    pixels = np.asarray(image).astype(np.float32) / np.float32(255)
    return ((pixels - MEAN) / STD).transpose(2, 0, 1)


if __name__ == "__main__":
    main(*sys.argv[1:5], *map(int, sys.argv[5:]))

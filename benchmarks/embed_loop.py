"""Embed a folder of images as one would by hand: Pillow in threads, then raw ONNX Runtime.

Arguments: MODEL FOLDER OUT WORKERS BATCH. It imports nothing else, so that it starts fast.
"""

from __future__ import annotations

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image

SIDE, RESIZED = 224, 256
MEAN, STD = np.float32((0.485, 0.456, 0.406)), np.float32((0.229, 0.224, 0.225))


def main(model: str, folder: str, out: str, workers: int, batch: int) -> None:
    """Embed all files of the folder in order; threads prepare the next ones."""
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    files = sorted(os.listdir(folder))
    found = []
    with ThreadPoolExecutor(workers) as pool:
        inputs = pool.map(partial(load, Path(folder)), files)
        for start in range(0, len(files), batch):
            stacked = np.stack([next(inputs) for _ in files[start : start + batch]])
            found += session.run(["embedding"], {"images": stacked})
    np.save(out, np.concatenate(found))


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
    main(*sys.argv[1:4], *map(int, sys.argv[4:]))

"""What does the data set cost over a bare loop? The same images by turns, in one process.

python benchmarks/writer_overhead.py

The bare loop decodes with the same threads, runs the same batches, and keeps the embeddings in
memory. The other reads the folder as a source and writes parts, with their keys, to disk. The
ratio of processor times means more than that of the clock where other work runs beside it.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from conditions import conditions, publish, spread
from PIL import Image

from gsp_deploy import EmbeddingModel, GSPConfig, ModelConfig, PreprocessingSpec
from gsp_deploy.export import ExportOptions, export_onnx
from gsp_deploy.images.files import ImageReader, find_images
from gsp_deploy.model import feature_channels
from gsp_deploy.retrieval.embedding import embed_files
from gsp_deploy.retrieval.job import EmbeddingRun, Job, Worker
from gsp_deploy.retrieval.job.settings import Wanted, settings_of
from gsp_deploy.runtime import SessionOptions, open_with
from gsp_deploy.sources import Columns, Sources

BACKBONE, DIM = "resnet18", 128
OPTIONS = SessionOptions("cpu", threads=1)
DECODERS = 2


def write_images(folder: Path, count: int, side: int) -> None:
    """Write JPEG files a little larger than the model's input."""
    for number in range(count):
        pixels = np.random.default_rng(number).integers(0, 256, (12, 16, 3), dtype=np.uint8)
        image = Image.fromarray(pixels).resize((side * 3 // 2, side * 5 // 4))
        image.save(folder / f"{number:05}.jpg", quality=90)


def write_model(path: Path, side: int) -> Path:
    """Export an untrained model."""
    torch.manual_seed(0)
    spec = PreprocessingSpec(side, side)
    head = GSPConfig(feature_channels(BACKBONE, {}, spec), embedding_dim=DIM)
    model = EmbeddingModel(ModelConfig(BACKBONE, head, spec)).eval()
    export_onnx(model, path, ExportOptions())
    return path


Seconds = tuple[float, float]  # by the clock, and of the processor in all threads


def now() -> Seconds:
    """Return the clock and the processor time of this process."""
    return time.perf_counter(), time.process_time()


def since(start: Seconds) -> Seconds:
    """Return the seconds since then."""
    clock, processor = now()
    return clock - start[0], processor - start[1]


def bare_loop(model: Path, photos: Path, batch: int) -> Seconds:
    """Return the seconds of the loop, without opening the model."""
    with open_with(model, OPTIONS) as session:
        start = now()
        spec = session.info.require_preprocessing()
        reader = ImageReader(find_images([photos]), spec, batch, threads=DECODERS)
        table = embed_files(session, reader)
        assert len(table.ids) == len(reader)
        return since(start)


def data_set(model: Path, photos: Path, batch: int, shard_size: int, out: Path) -> Seconds:
    """Return the seconds of a run, without opening the model."""
    settings = settings_of(model, OPTIONS, Wanted("float32", (), batch, shard_size, Columns()))
    job = Job(model, OPTIONS, settings, out, decoders=DECODERS)
    out.mkdir()
    with Worker(job) as worker:
        start = now()
        run = EmbeddingRun(job, Sources([str(photos)], shard_size))
        for _ in run.parts(lambda _, tasks: (p for task in tasks for p in worker.embed(task))):
            pass
        assert run.finish() is not None
        return since(start)


def main() -> None:
    """Print the ratio of the two, round by round in turns."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--side", type=int, default=224)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--shard-size", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    about = conditions(1, **{k: v for k, v in vars(asked).items() if k != "json"})
    rates, ratios, processor = [], [], []
    with tempfile.TemporaryDirectory() as name:
        photos, out = Path(name, "photos"), Path(name, "out")
        photos.mkdir()
        write_images(photos, asked.images, asked.side)
        model = write_model(Path(name, "model.onnx"), asked.side)
        measured = {
            "bare": lambda: bare_loop(model, photos, asked.batch),
            "written": lambda: data_set(model, photos, asked.batch, asked.shard_size, out),
        }
        for number in range(asked.rounds + 1):
            order = list(measured) if number % 2 else list(measured)[::-1]
            seconds = {name: measured[name]() for name in order}
            first, second = seconds["bare"], seconds["written"]
            shutil.rmtree(out)
            if number:  # the first round warms the caches up
                rates.append(asked.images / first[0])
                ratios.append(second[0] / first[0])
                processor.append(second[1] / first[1])
    results = [
        {
            "ratio": round(statistics.median(ratios), 4),
            "ratios": [round(ratio, 4) for ratio in ratios],
            "processor_ratio": round(statistics.median(processor), 4),
            "processor_ratios": [round(ratio, 4) for ratio in processor],
            "bare_images_per_second": round(statistics.median(rates), 1),
        }
    ]
    row = [spread(rates, 1), spread(ratios), spread(processor)]
    columns = ("bare loop, images/s", "clock, data set / bare", "processor, data set / bare")
    publish("writer-overhead", about, results, columns, [row], asked.json)


if __name__ == "__main__":
    main()

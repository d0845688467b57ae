"""Does memory stay flat? Embeds of a tiny model, resident memory along the way.

python benchmarks/soak.py --embeds 100000
"""

from __future__ import annotations

import argparse
import gc
import tempfile
from pathlib import Path

import numpy as np
import psutil
from conditions import conditions, publish

from gsp_deploy import EmbeddingModel, GSPConfig, ModelConfig, PreprocessingSpec, open_session
from gsp_deploy.export import ExportOptions, export_onnx
from gsp_deploy.model import feature_channels

SIDE = 16
WARM_UP = 1000
MARKS = 10
BATCHES = (1, 3, 8)  # sizes in turns: an allocator that keeps a block a shape would show


def tiny_model(path: Path) -> Path:
    """Export an untrained model of a few thousand weights."""
    spec = PreprocessingSpec(SIDE, SIDE)
    options = {"width": 4}
    channels = feature_channels("small_cnn_s8", options, spec)
    head = GSPConfig(channels, embedding_dim=8, num_prototypes=4, solver="newton")
    config = ModelConfig("small_cnn_s8", head, spec, backbone_options=options)
    export_onnx(EmbeddingModel(config).eval(), path, ExportOptions(iterations=3))
    return path


def soak(path: Path, embeds: int) -> list[tuple[int, float]]:
    """Return `(embeds so far, resident MiB)`, after the warm-up and at each tenth."""
    process, draw = psutil.Process(), np.random.default_rng(0)
    images = draw.integers(0, 256, (max(BATCHES), SIDE, SIDE, 3), dtype=np.uint8)
    seen = []
    with open_session(path, threads=1) as session:
        expected = session.embed(images)
        for count in range(WARM_UP + embeds + 1):
            if count >= WARM_UP and (count - WARM_UP) % (embeds // MARKS) == 0:
                gc.collect()
                seen.append((count - WARM_UP, process.memory_info().rss / 2**20))
            session.embed(images[: BATCHES[count % len(BATCHES)]])
        assert np.array_equal(session.embed(images), expected)
    return seen


def main() -> None:
    """Print resident memory along the way."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--embeds", type=int, default=100_000)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    about = conditions(1, embeds=asked.embeds, batches=BATCHES)
    with tempfile.TemporaryDirectory() as folder:
        seen = soak(tiny_model(Path(folder, "tiny.onnx")), asked.embeds)
    results = [{"embeds": count, "resident_mib": size} for count, size in seen]
    rows = [(f"{count:,}", f"{size:.1f}") for count, size in seen]
    publish("soak", about, results, ("embeds", "resident MiB"), rows, asked.json)


if __name__ == "__main__":
    main()

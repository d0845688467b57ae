"""What GSP adds to a whole network: ResNet-50 at 224 px on ONNX Runtime, against average pooling.

the certified solver and the paper's 100 unrolled steps, each with its twin, all four
networks in turns. Weights are random: what a network computes does not depend on them. Another
network: `--backbone vit_small_patch14_dinov2 --backbone-option img_size=224`.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from conditions import conditions, publish, spread

from gsp_deploy import EmbeddingModel, GSPConfig, ModelConfig, PreprocessingSpec
from gsp_deploy.base.settings import setting_of
from gsp_deploy.benchmark import BenchmarkReport, BenchmarkSettings, run_benchmark
from gsp_deploy.export import ExportOptions, export_onnx
from gsp_deploy.model import feature_channels

EXPORTS = {
    "certified": ExportOptions(),
    "unrolled": ExportOptions(solver="fixed-point", iterations=100),
}


def main() -> None:
    """Export, measure `--runs` times, and print the ratios' medians and spread."""
    asked = _arguments()
    settings = BenchmarkSettings(
        batches=tuple(asked.batch), threads=asked.threads, repeats=asked.rounds, memory=False
    )
    about = conditions(
        asked.threads,
        backbone=" ".join([asked.backbone, *asked.backbone_option]),
        size=asked.size,
        rounds=asked.rounds,
        runs=asked.runs,
    )
    with tempfile.TemporaryDirectory() as folder:
        options = dict(map(setting_of, asked.backbone_option))
        models = _export(asked.backbone, options, asked.size, Path(folder))
        reports = [run_benchmark(models, settings) for _ in range(asked.runs)]
    results = [
        _summary(reports, model, batch)
        for model in range(len(EXPORTS))
        for batch in range(len(asked.batch))
    ]
    columns = ("solver", "batch", "GSP p50, ms", "GAP p50, ms", "ratio", "extra, ms")
    publish("inference", about, results, columns, [_row(r) for r in results], asked.json)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backbone", default="resnet50")
    parser.add_argument("--backbone-option", nargs="*", default=[], metavar="NAME=VALUE")
    parser.add_argument("--size", type=int, default=224, help="side of the images")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def _export(backbone: str, options: dict[str, Any], size: int, folder: Path) -> list[Path]:
    torch.manual_seed(0)
    spec = PreprocessingSpec(size, size)
    head = GSPConfig(feature_channels(backbone, options, spec))
    model = EmbeddingModel(ModelConfig(backbone, head, spec, options)).eval()
    return [
        export_onnx(model, folder / f"{name}.onnx", form).path for name, form in EXPORTS.items()
    ]


def _summary(reports: list[BenchmarkReport], model: int, batch: int) -> dict[str, Any]:
    found = [report.models[model].batches[batch] for report in reports]
    costs = [result.pooling_cost for result in found]
    assert all(costs)
    return {
        "solver": reports[0].models[model].solver,
        "batch": found[0].batch,
        "gsp_p50_ms": [result.latency.p50 for result in found],
        "gap_p50_ms": [cost.twin.p50 for cost in costs if cost],
        "ratio": [cost.ratio for cost in costs if cost],
        "extra_ms": [cost.extra_ms for cost in costs if cost],
    }


def _row(result: dict[str, Any]) -> tuple[str, ...]:
    return (
        result["solver"],
        str(result["batch"]),
        f"{np.median(result['gsp_p50_ms']):.1f}",
        f"{np.median(result['gap_p50_ms']):.1f}",
        spread(result["ratio"]),
        spread(result["extra_ms"], 2),
    )


if __name__ == "__main__":
    main()

"""What int8 saves on ONNX Runtime's CPU provider, and where the time goes: ResNet-50 + GSP, 224 px.

Three sessions take turns on the same images: the float32 file; the int8 file as it is, with signed
activations; and the int8 file as `open_session` runs it, with uint8 activations. `--operators` then
profiles each and prints the milliseconds of every kind of operator. Weights are random and batch
normalisation is fitted to photographs: what a network computes hardly changes its speed.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from conditions import conditions, publish, spread

from gsp_deploy import EmbeddingModel, GSPConfig, ModelConfig, PreprocessingSpec
from gsp_deploy.artifact.unsigned import unsign
from gsp_deploy.export import ExportOptions, export_onnx
from gsp_deploy.export.calibration import Calibration, default_calibration
from gsp_deploy.export.quantisation import QuantisationImages
from gsp_deploy.model import feature_channels
from gsp_deploy.runtime import SessionOptions
from gsp_deploy.runtime.onnx_graph import OnnxGraph

IMAGES = 16
FORMS = ("fp32", "int8 as stored", "int8 as run")
OUTPUTS = ["embedding"]
Session = onnxruntime.InferenceSession


def main() -> None:
    """Export, measure `--runs` times, and print the ratios' medians and spread."""
    asked = _arguments()
    about = conditions(
        asked.threads,
        backbone=asked.backbone,
        size=asked.size,
        rounds=asked.rounds,
        runs=asked.runs,
    )
    with tempfile.TemporaryDirectory() as folder:
        models, images = _export(asked.backbone, asked.size, Path(folder))
        runs = [
            {batch: _in_turns(models, images[:batch], asked) for batch in asked.batch}
            for _ in range(asked.runs)
        ]
        operators = [
            _operators(form, model, images[:batch], asked.threads, Path(folder))
            for batch in asked.batch
            for form, model in models.items()
            if asked.operators
        ]
    results = [_summary(runs, batch, form) for batch in asked.batch for form in FORMS]
    columns = ("form", "batch", "p50, ms", "times faster than fp32")
    rows = [
        (r["form"], str(r["batch"]), f"{np.median(r['p50_ms']):.1f}", spread(r["speedup"], 2))
        for r in results
    ]
    extra = {"operators": operators} if asked.json else {}
    publish("int8", about | extra, results, columns, rows, asked.json)
    if operators and not asked.json:
        _print_operators(operators)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backbone", default="resnet50")
    parser.add_argument("--size", type=int, default=224, help="side of the images")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--operators", action="store_true", help="profile by operator too")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def _export(backbone: str, size: int, folder: Path) -> tuple[dict[str, str | bytes], np.ndarray]:
    """Return each form of the model, and normalised images."""
    torch.manual_seed(0)
    spec = PreprocessingSpec(size, size)
    config = ModelConfig(backbone, GSPConfig(feature_channels(backbone, {}, spec)), spec)
    photographs = default_calibration(config, IMAGES)
    images = photographs.prepare(photographs.inputs, "float32")
    model = EmbeddingModel(config)
    _fit_batch_norm(model, images)
    calibration = Calibration(photographs.inputs, photographs.source, spec)
    plain = export_onnx(model, folder / "fp32.onnx").path
    int8 = export_onnx(
        model,
        folder / "int8.onnx",
        ExportOptions(precision="int8", max_drop=100),
        quantisation=QuantisationImages(calibration, calibration),
    ).path
    unsigned = unsign(int8)
    assert unsigned is not None
    return dict(zip(FORMS, (str(plain), str(int8), unsigned), strict=True)), images


def _fit_batch_norm(model: EmbeddingModel, images: np.ndarray) -> None:
    """Give every layer outputs of an ordinary size, as a trained network has."""
    layers = [layer for layer in model.modules() if isinstance(layer, torch.nn.BatchNorm2d)]
    for layer in layers:
        torch.nn.init.uniform_(layer.weight, 0.3, 1.0)
        layer.momentum = None
    with torch.no_grad():
        model.train()(torch.from_numpy(images))
    model.eval()


def _open(model: str | bytes, threads: int, profile: Path | None = None) -> Session:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 3
    options.add_session_config_entry("session.force_spinning_stop", "1")
    if profile is not None:
        options.enable_profiling, options.profile_file_prefix = True, str(profile)
    return Session(model, options, providers=["CPUExecutionProvider"])


def _in_turns(
    models: dict[str, str | bytes], images: np.ndarray, asked: argparse.Namespace
) -> dict[str, list[float]]:
    """Return the seconds of every round, by form; each round starts with another form."""
    plain, stored, _ = models.values()
    options = SessionOptions(threads=asked.threads)
    ours = [OnnxGraph(Path(str(file)), options) for file in (plain, stored)]
    as_stored = _open(stored, asked.threads)
    calls: dict[str, Callable[[], object]] = {
        FORMS[0]: lambda: ours[0].run(images, OUTPUTS),
        FORMS[1]: lambda: as_stored.run(OUTPUTS, {"images": images}),
        FORMS[2]: lambda: ours[1].run(images, OUTPUTS),
    }
    times: dict[str, list[float]] = {form: [] for form in calls}
    for count in range(asked.rounds + 3):
        turn = count % len(FORMS)
        for form in (*FORMS[turn:], *FORMS[:turn]):
            start = time.perf_counter()
            calls[form]()
            if count >= 3:
                times[form].append(time.perf_counter() - start)
    return times


def _summary(
    runs: list[dict[int, dict[str, list[float]]]], batch: int, form: str
) -> dict[str, Any]:
    found = [run[batch] for run in runs]
    return {
        "form": form,
        "batch": batch,
        "p50_ms": [1e3 * float(np.median(times[form])) for times in found],
        "speedup": [float(np.median(np.divide(times["fp32"], times[form]))) for times in found],
    }


def _operators(
    form: str, model: str | bytes, images: np.ndarray, threads: int, folder: Path
) -> dict[str, Any]:
    """Profile one form; return the milliseconds of each kind of operator, and of each node."""
    session = _open(model, threads, folder / "profile")
    for _ in range(13):
        session.run(OUTPUTS, {"images": images})
    file = session.end_profiling()
    events = json.loads(Path(file).read_text(encoding="utf-8"))
    os.remove(file)
    nodes: dict[tuple[str, str], list[float]] = defaultdict(list)
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            name = event["name"].removesuffix("_kernel_time")
            nodes[event["args"]["op_name"], name].append(event["dur"] / 1e3)
    medians = {node: float(np.median(times)) for node, times in nodes.items()}
    kinds: dict[str, float] = defaultdict(float)
    for (kind, _), median in medians.items():
        kinds[kind] += median
    slowest = sorted(medians.items(), key=lambda item: -item[1])
    return {
        "form": form,
        "batch": len(images),
        "by_operator_ms": dict(sorted(kinds.items(), key=lambda item: -item[1])),
        "nodes_ms": {name: round(median, 4) for (_, name), median in slowest},
    }


def _print_operators(profiles: list[dict[str, Any]]) -> None:
    """Print each profile as one row of a Markdown table; operators below 1 % are left out."""
    print("\n| form | batch | total, ms | operators, ms |\n|---|---|---|---|")
    for profile in profiles:
        kinds = profile["by_operator_ms"]
        total = sum(kinds.values())
        shown = ", ".join(f"{k} {v:.2f}" for k, v in kinds.items() if v >= total / 100)
        print(f"| {profile['form']} | {profile['batch']} | {total:.1f} | {shown} |")


if __name__ == "__main__":
    main()

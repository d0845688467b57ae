"""ResNet-50 at 224 px on a CPU: ONNX Runtime, our OpenVINO session, and OpenVINO's own API.

All run in turns: float32, bfloat16 where the processor has it, and int8. Then throughput with
several requests in flight, and a roofline: the network's arithmetic against that of a plain matrix
product in the same runtime and precision. Weights are random: times do not depend on them.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import openvino
import torch
from conditions import conditions, publish, spread
from cpu_roofline import multiply_adds, product_task

from gsp_deploy import EmbeddingModel, GSPConfig, ModelConfig, PreprocessingSpec, open_session
from gsp_deploy.benchmark.timing import Rounds, interleave
from gsp_deploy.export import ExportOptions, export_onnx
from gsp_deploy.export.calibration import Calibration, default_calibration
from gsp_deploy.export.quantisation.images import QuantisationImages
from gsp_deploy.metrics import cosine_distances
from gsp_deploy.model import feature_channels
from gsp_deploy.runtime import EmbeddingSession
from gsp_deploy.runtime.openvino_model import HINTS, processor_precisions

OUTPUTS = ("embedding",)
REFERENCE = "ONNX Runtime, fp32"


def main() -> None:
    """Export, measure, and print three tables."""
    asked = _arguments()
    about = conditions(
        asked.threads, backbone=asked.backbone, size=asked.size, rounds=asked.rounds,
        runs=asked.runs, precisions=" ".join(processor_precisions()),
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        files, images = _export(asked.backbone, asked.size, Path(folder))
        runs = [_latencies(files, images, asked) for _ in range(asked.runs)]
        throughput = _throughput(files, images, asked)
        roofline = _roofline(files, images, asked)
    rows = [row for batch in asked.batch for row in _rows(runs, batch)]
    columns = ("what", "batch", "p50, ms", "times as fast as " + REFERENCE, "worst 1 - cos")
    if asked.json:
        about |= {"throughput": throughput, "roofline": roofline}
    publish("cpu_runtimes", about, rows, columns, [_cells(row) for row in rows], asked.json)
    if not asked.json:
        _table(("requests", "precision", "images/s", "ratio to one request"), throughput)
        largest = f"network, T/s at batch {asked.batch[-1]}"
        _table(("precision", "matrix product, T/s", largest, "share"), roofline)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backbone", default="resnet50")
    parser.add_argument("--size", type=int, default=224, help="side of the images")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def _export(backbone: str, size: int, folder: Path) -> tuple[dict[str, Path], np.ndarray]:
    """Return the files by precision, and real images of the model's size."""
    torch.manual_seed(0)
    spec = PreprocessingSpec(size, size)
    head = GSPConfig(feature_channels(backbone, {}, spec))
    model = EmbeddingModel(ModelConfig(backbone, head, spec)).eval()
    images = default_calibration(model.config, 16)
    judged = QuantisationImages(images, Calibration(images.inputs[:8], "8 of them", spec))
    files = {}
    for word in ("fp32", "int8"):
        options = ExportOptions(precision=word, max_drop=100.0)
        path = folder / f"{word}.onnx"
        files[word] = export_onnx(model, path, options, quantisation=judged).path
    return files, images.inputs


def _floats() -> list[str]:
    return [word for word in ("fp32", "bf16") if word in processor_precisions()]


def _raw(path: Path, precision: str, threads: int) -> Callable[[np.ndarray], np.ndarray]:
    """Return OpenVINO's own API on a file, with nothing set but precision and threads."""
    core = openvino.Core()
    settings = {"INFERENCE_PRECISION_HINT": HINTS[precision], "INFERENCE_NUM_THREADS": threads}
    compiled = core.compile_model(core.read_model(path), "CPU", settings)
    request = compiled.create_infer_request()
    return lambda inputs: request.infer([inputs], share_inputs=True)[compiled.output(0)]


def _latencies(
    files: dict[str, Path], images: np.ndarray, asked: argparse.Namespace
) -> dict[tuple[str, int], tuple[np.ndarray, float]]:
    """Return seconds of each round and the worst 1 - cos, by name and batch."""
    sessions: dict[str, EmbeddingSession] = {
        REFERENCE: open_session(files["fp32"], threads=asked.threads),
        "ONNX Runtime, int8": open_session(files["int8"], threads=asked.threads),
    }
    raw: dict[str, Callable[[np.ndarray], np.ndarray]] = {}
    for word in _floats():
        opened = partial(open_session, runtime="openvino", threads=asked.threads, precision=word)
        sessions[f"OpenVINO session, {word}"] = opened(files["fp32"])
        sessions[f"OpenVINO session, int8 and {word}"] = opened(files["int8"])
        raw[f"OpenVINO's own API, {word}"] = _raw(files["fp32"], word, asked.threads)
    found = {}
    exact = sessions[REFERENCE].embed(images)
    for batch in asked.batch:
        inputs = sessions[REFERENCE].prepare(images[:batch])
        calls: dict[str, Callable[[], Any]] = {
            name: partial(session.infer, inputs, OUTPUTS) for name, session in sessions.items()
        }
        calls |= {name: partial(run, inputs) for name, run in raw.items()}
        times = interleave(list(calls.values()), Rounds(3, asked.rounds))
        for (name, call), column in zip(calls.items(), times.T, strict=True):
            result = call()
            embeddings = result["embedding"] if isinstance(result, dict) else result
            worst = float(cosine_distances(embeddings, exact[:batch]).max())
            found[name, batch] = column, worst
    for session in sessions.values():
        session.close()
    return found


def _rows(
    runs: list[dict[tuple[str, int], tuple[np.ndarray, float]]], batch: int
) -> list[dict[str, Any]]:
    rows = []
    for name in (name for name, size in runs[0] if size == batch):
        paired = [(run[name, batch][0], run[REFERENCE, batch][0]) for run in runs]
        rows.append(
            {
                "what": name,
                "batch": batch,
                "p50_ms": [1000 * float(np.median(own)) for own, _ in paired],
                "speed": [float(np.median(base / own)) for own, base in paired],
                "over_own_api": _over_own_api(runs, name, batch),
                "worst_distance": max(run[name, batch][1] for run in runs),
            }
        )
    return rows


def _over_own_api(runs: list[Any], name: str, batch: int) -> list[float] | None:
    """Return our session's time over that of OpenVINO's own API, for the same file."""
    other = name.replace("OpenVINO session", "OpenVINO's own API")
    if other == name or (other, batch) not in runs[0]:
        return None
    return [float(np.median(run[name, batch][0] / run[other, batch][0])) for run in runs]


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    over = row["over_own_api"]
    note = "" if over is None else f"; {spread(over)} of its own API's time"
    return (
        row["what"],
        str(row["batch"]),
        f"{np.median(row['p50_ms']):.1f}",
        spread(row["speed"], 2) + note,
        f"{row['worst_distance']:.1e}",
    )


def _throughput(
    files: dict[str, Path], images: np.ndarray, asked: argparse.Namespace
) -> list[tuple[str, ...]]:
    """Return images per second of 32 images at once, with one request and with the most."""
    many = np.concatenate([images, images])
    rows = []
    for word in _floats():
        opened = partial(
            open_session, files["fp32"], runtime="openvino", threads=asked.threads, precision=word
        )
        with opened() as one, opened(requests=0) as most:
            inputs = one.prepare(many)
            calls = [partial(session.embed, inputs) for session in (one, most)]
            times = interleave(calls, Rounds(1, max(asked.rounds // 2, 3)))
        ratio = float(np.median(times[:, 0] / times[:, 1]))
        speeds = len(many) / np.median(times, axis=0)
        rows.append(("1", word, f"{speeds[0]:.1f}", "1"))
        rows.append(("as many as are fastest", word, f"{speeds[1]:.1f}", f"{ratio:.2f}"))
    return rows


def _roofline(
    files: dict[str, Path], images: np.ndarray, asked: argparse.Namespace
) -> list[tuple[str, ...]]:
    """Return the arithmetic per second of a matrix product and of the network, in turns."""
    batch = asked.batch[-1]
    operations = 2.0 * batch * multiply_adds(onnx.load(files["fp32"]), asked.size)
    rows = []
    for word in [*_floats(), "int8"]:
        precision = "fp32" if word == "int8" else word
        product, most = product_task(word, asked.threads)
        with open_session(
            files["int8" if word == "int8" else "fp32"],
            runtime="openvino", threads=asked.threads, precision=precision,
        ) as session:  # fmt: skip
            inputs = session.prepare(images[:batch])
            calls = [product, partial(session.infer, inputs, OUTPUTS)]
            times = interleave(calls, Rounds(2, asked.rounds))
        reached = np.array([most, operations]) / times / 1e12
        share = float(np.median(reached[:, 1] / reached[:, 0]))
        peak, network = np.median(reached, axis=0)
        rows.append((word, f"{peak:.2f}", f"{network:.2f}", f"{share:.0%}"))
    return rows


def _table(columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    print("\n| " + " | ".join(columns) + " |")
    print("|---" * len(columns) + "|")
    for row in rows:
        print("| " + " | ".join(row) + " |")


if __name__ == "__main__":
    main()

"""What the solver costs inside the head: features (B, 2048, 7, 7) to 512-D, 64 prototypes.

The same head is written with the certified solver, with Newton steps (3, and as many as the hardest
inputs need), with the paper's 100 unrolled steps, and with no step at all; the solver's cost is the
head's time less that of the head without steps, round by round. Features are near the prototypes
in part, as trained ones are; no graph here takes a branch, so that values do not change the time.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from conditions import conditions, publish, spread

from gsp_deploy import EmbeddingModel, GSPConfig, ModelConfig
from gsp_deploy.benchmark.timing import MILLISECONDS, Rounds, interleave
from gsp_deploy.bounds import newton_steps
from gsp_deploy.export import ExportOptions
from gsp_deploy.export.backbone import head_parameters
from gsp_deploy.export.calibration import features_near
from gsp_deploy.export.head import HeadParameters, write_head
from gsp_deploy.export.plan import certified_plan
from gsp_deploy.export.transport import SolverPlan
from gsp_deploy.export.twin import average_pooling_of
from gsp_deploy.runtime.onnx_graph import OnnxGraph
from gsp_deploy.runtime.session import SessionOptions

CONFIG = GSPConfig(2048, embedding_dim=512, num_prototypes=64)
SIZE = (7, 7)
AVERAGE, NOTHING, PAPER = "average pooling", "no steps", "100 fixed-point"
NO_STEPS, UNROLLED = SolverPlan("newton", 0), SolverPlan("fixed-point", 100)


def main() -> None:
    """Write the heads, measure `--runs` times, and print the solver's cost."""
    asked = _arguments()
    about = conditions(asked.threads, gamma=asked.gamma, rounds=asked.rounds, runs=asked.runs)
    config = replace(CONFIG, entropy_weight=asked.gamma)
    torch.manual_seed(0)
    model = EmbeddingModel(ModelConfig("features", config, None)).eval()
    parameters = head_parameters(model.head)
    with tempfile.TemporaryDirectory() as folder:
        heads = _write_heads(Path(folder), config, parameters)
        results = [
            result
            for batch in asked.batch
            for result in _measure(heads, _features(parameters, batch), asked)
        ]
    columns = ("steps", "batch", "head p50, ms", "solver, ms", "solver / that of 100")
    publish("head", about, results, columns, [_row(r) for r in results], asked.json)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--gamma", type=float, default=20.0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def _plans(config: GSPConfig, parameters: HeadParameters) -> dict[str, SolverPlan | None]:
    """Return the plans to measure, with the points and steps that the export takes by itself."""
    assert parameters.prototypes is not None
    certified = certified_plan(config, parameters.prototypes, ExportOptions())
    name = f"certified: {certified.grid_points} points, {certified.steps} steps"
    worst = newton_steps(config.entropy_weight)
    newton = {f"{n} Newton": SolverPlan("newton", n) for n in (3, worst)}
    return {AVERAGE: None, NOTHING: NO_STEPS, name: certified, **newton, PAPER: UNROLLED}


def _features(parameters: HeadParameters, batch: int) -> np.ndarray:
    return features_near(parameters, batch, SIZE[0], np.random.default_rng(0))


def _write_heads(folder: Path, config: GSPConfig, parameters: HeadParameters) -> dict[str, Path]:
    paths = {}
    for index, (name, plan) in enumerate(_plans(config, parameters).items()):
        paths[name] = folder / f"{index}.onnx"
        ir.save(_network(config, parameters, plan), paths[name])
    return paths


def _network(head: GSPConfig, parameters: HeadParameters, plan: SolverPlan | None) -> ir.Model:
    shape = ir.Shape(["batch", head.in_channels, *SIZE])
    features = ir.Value(name="features", shape=shape, type=ir.TensorType(ir.DataType.FLOAT))
    graph = ir.Graph([features], [], nodes=[], opset_imports={"": 18}, name="head")
    config = head if plan else average_pooling_of(head)
    embedding = write_head(graph, features, config, parameters, plan or NO_STEPS)["embedding"]
    embedding.dtype, embedding.shape = ir.DataType.FLOAT, ir.Shape(["batch", head.embedding_dim])
    graph.outputs.append(embedding)
    return ir.Model(graph, ir_version=10)


def _measure(
    heads: dict[str, Path], features: np.ndarray, asked: argparse.Namespace
) -> list[dict[str, Any]]:
    names = list(heads)
    without, unrolled = names.index(NOTHING), names.index(PAPER)
    medians, costs = [], []
    for _ in range(asked.runs):
        # Opened anew, since two sessions of one file differ by where their memory lies.
        graphs = [OnnxGraph(path, SessionOptions(threads=asked.threads)) for path in heads.values()]
        tasks = [partial(graph.run, features, graph.outputs) for graph in graphs]
        times = interleave(tasks, Rounds(warmup=20, repeats=asked.rounds)) * MILLISECONDS
        medians.append(np.median(times, axis=0))
        costs.append(np.median(times - times[:, [without]], axis=0))
    solver = np.median(costs, axis=0)
    return [
        {
            "steps": name,
            "batch": len(features),
            "p50_ms": [float(run[index]) for run in medians],
            "solver_ms": [float(run[index]) for run in costs],
            "share": float(solver[index] / solver[unrolled]),
        }
        for index, name in enumerate(names)
    ]


def _row(result: dict[str, Any]) -> tuple[str, ...]:
    row = (result["steps"], str(result["batch"]), spread(result["p50_ms"]))
    if result["steps"] in (AVERAGE, NOTHING):
        return *row, "", ""
    return *row, spread(result["solver_ms"]), f"{result['share']:.2f}"


if __name__ == "__main__":
    main()

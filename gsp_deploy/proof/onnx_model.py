"""ONNX Runtime on the device: parity with the CPU, and latency beside the average-pooling twin."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gsp_deploy.errors import GateError
from gsp_deploy.export.twin import write_twin
from gsp_deploy.proof.document import Finding
from gsp_deploy.runtime import EmbeddingSession, open_session

if TYPE_CHECKING:
    from gsp_deploy.proof.run import ProofSettings

_MOST_DISTANCE = 1e-4  # 1 - cos to the CPU: a GPU's convolutions may round to TF32
_RUNS = 50


def onnx_model(settings: ProofSettings, folder: Path) -> Finding:
    """Compare and time one export.

    Raises:
        MissingCapabilityError: there is no model, or ONNX Runtime has no provider for the device.
        GateError: an embedding is too far from the CPU's.
    """
    model, twin = settings.required_model(), folder / "average.onnx"
    write_twin(model, twin)
    with ExitStack() as stack:
        gsp, average = (
            stack.enter_context(open_session(path, settings.device)) for path in (model, twin)
        )
        expected = stack.enter_context(open_session(model, "cpu"))
        worst = max(_distance(gsp, expected, batch) for batch in settings.batches)
        rows = [_row(gsp, average, batch) for batch in settings.batches]
    detail = f"1 - cos to the CPU at most {worst:.1e}, on {gsp.info.runtime} {gsp.info.device}"
    return Finding("", "passed", detail, table=rows)


def _distance(session: EmbeddingSession, expected: EmbeddingSession, batch: int) -> float:
    images = images_for(session, batch)
    return cosine_distance(session.embed(images), expected.embed(images), batch)


def cosine_distance(a: np.ndarray, b: np.ndarray, batch: int) -> float:
    """Return the largest cosine distance between rows.

    Raises:
        GateError: it is more than a GPU's rounding explains.
    """
    cosines = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    worst = float(1 - cosines.min())
    if not worst <= _MOST_DISTANCE:
        raise GateError(f"an embedding is {worst:.1e} from the CPU's at batch {batch}")
    return worst


def _row(gsp: EmbeddingSession, average: EmbeddingSession, batch: int) -> dict[str, float]:
    """Return the median milliseconds of both, run in turns."""
    images = images_for(gsp, batch)
    times: dict[str, list[float]] = {"GSP": [], "average": []}
    for run in range(_RUNS + 3):
        for name, session in (("GSP", gsp), ("average", average)):
            start = time.perf_counter()
            session.embed(images)
            if run >= 3:  # the first ones prepare
                times[name].append(time.perf_counter() - start)
    medians = {name: float(np.median(values)) * 1e3 for name, values in times.items()}
    return {
        "batch": batch,
        "GSP, ms": medians["GSP"],
        "average pooling, ms": medians["average"],
        "ratio": medians["GSP"] / medians["average"],
    }


def images_for(session: EmbeddingSession, batch: int, seed: int = 0) -> np.ndarray:
    """Return images of the model's size, the same for every session."""
    spec = session.info.require_preprocessing()
    draw = np.random.default_rng(seed)
    return draw.integers(0, 256, (batch, spec.height, spec.width, 3), np.uint8)

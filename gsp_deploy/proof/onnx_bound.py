"""ONNX Runtime on device memory: inputs and outputs bound, and runs captured as a CUDA graph."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime

from gsp_deploy.proof.document import Finding
from gsp_deploy.proof.onnx_model import cosine_distance, images_for
from gsp_deploy.runtime import EmbeddingSession, SessionOptions, open_session
from gsp_deploy.runtime.providers import provider_name, provider_settings

if TYPE_CHECKING:
    from gsp_deploy.proof.run import ProofSettings

_RUNS = 50
# ONNX Runtime captures the second run; from the third on it launches the graph.
_RUNS_BEFORE_GRAPH = 3


class BoundModel:
    """A model with its input and embedding at fixed addresses on the device."""

    def __init__(self, model: Path, device: str, images: np.ndarray, *, captured: bool) -> None:
        options = SessionOptions(device)
        provider = provider_name(options)
        graph = {"enable_cuda_graph": "1"} if captured else {}
        chain = [(provider, {**provider_settings(provider, options), **graph})]
        self._session = onnxruntime.InferenceSession(str(model), providers=chain)
        self._input = onnxruntime.OrtValue.ortvalue_from_numpy(images, device, 0)
        self._binding = self._session.io_binding()
        self._binding.bind_ortvalue_input(self._session.get_inputs()[0].name, self._input)
        outputs = {output.name: output for output in self._session.get_outputs()}
        shape = (len(images), outputs.pop("embedding").shape[1])
        self._embedding = onnxruntime.OrtValue.ortvalue_from_shape_and_type(
            shape, np.float32, device, 0
        )
        self._binding.bind_ortvalue_output("embedding", self._embedding)
        for name in outputs:
            self._binding.bind_output(name, device, 0)
        for _ in range(_RUNS_BEFORE_GRAPH):
            self.run()

    def run(self) -> None:
        """Run once, and wait for the end."""
        self._session.run_with_iobinding(self._binding)
        self._binding.synchronize_outputs()

    def embed(self, images: np.ndarray) -> np.ndarray:
        """Replace the input in its place, run, and return the embeddings."""
        self._input.update_inplace(images)
        self.run()
        found: Any = self._embedding.numpy()
        return np.asarray(found)

    def milliseconds(self) -> float:
        """Return the median time of a run, without copies between host and device."""
        times = []
        for _ in range(_RUNS):
            start = time.perf_counter()
            self.run()
            times.append(time.perf_counter() - start)
        return float(np.median(times)) * 1e3


def onnx_bound(settings: ProofSettings, folder: Path) -> Finding:
    """Compare bound and captured runs with the CPU's embeddings, and time them.

    Raises:
        MissingCapabilityError: there is no model, or ONNX Runtime has no provider for the device.
        GateError: an embedding is too far from the CPU's.
    """
    model = settings.required_model()
    forms = {"bound": False} if settings.is_rehearsal else {"bound": False, "captured": True}
    rows: list[dict[str, float]] = []
    worst = 0.0
    with open_session(model, "cpu") as expected:
        for batch in settings.batches:
            row: dict[str, float] = {"batch": batch}
            for name, captured in forms.items():
                distance, row[f"{name}, ms"] = _tried(settings, expected, batch, captured=captured)
                worst = max(worst, distance)
            rows.append(row)
    detail = f"1 - cos to the CPU at most {worst:.1e}, {' and '.join(forms)}"
    return Finding("", "passed", detail, table=rows)


def _tried(
    settings: ProofSettings, expected: EmbeddingSession, batch: int, *, captured: bool
) -> tuple[float, float]:
    """Return the distance of other images than those of the capture, and the milliseconds."""
    first, second = (expected.prepare(images_for(expected, batch, seed)) for seed in (0, 1))
    bound = BoundModel(settings.required_model(), settings.device, first, captured=captured)
    distance = cosine_distance(bound.embed(second), expected.embed(second), batch)
    return distance, bound.milliseconds()

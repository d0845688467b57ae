"""Time the copies between host and device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from gsp_deploy.benchmark.inputs import example_inputs
from gsp_deploy.benchmark.report import CopyTimes
from gsp_deploy.benchmark.settings import BenchmarkSettings
from gsp_deploy.benchmark.timing import Latency, Rounds, interleave
from gsp_deploy.runtime import EmbeddingSession

Upload = Callable[[np.ndarray], Any]
Download = Callable[[Any], np.ndarray]


def measure_copies(
    session: EmbeddingSession, batch: int, settings: BenchmarkSettings
) -> CopyTimes | None:
    """Time the copy of one batch to the device, and the copy of its embeddings back.

    Return None on the CPU, and for engines, because their stages include the copies. The copies are
    synchronous and from pageable memory, like those of a session.
    """
    if not settings.device.startswith("cuda") or "timeline" in session.capabilities:
        return None
    inputs = example_inputs(session, batch, settings)
    embeddings = np.zeros((batch, session.info.embedding_dim), np.float32)
    upload, download = _copier(session.info.runtime, settings.device)
    return time_copies(upload, download, inputs, embeddings, Rounds.brief(settings))


def time_copies(
    upload: Upload, download: Download, inputs: np.ndarray, outputs: np.ndarray, rounds: Rounds
) -> CopyTimes:
    """Time `upload(inputs)`, and `download` of outputs that are already on the device."""
    on_device = upload(outputs)
    times = interleave([lambda: upload(inputs), lambda: download(on_device)], rounds)
    return CopyTimes(Latency.of(times[:, 0]), Latency.of(times[:, 1]))


def _copier(runtime: str, device: str) -> tuple[Upload, Download]:
    kind, _, index = device.partition(":")
    if runtime.startswith("torch"):
        import torch

        def upload(array: np.ndarray) -> Any:
            tensor = torch.from_numpy(array).to(device)
            torch.cuda.synchronize(device)
            return tensor

        return upload, lambda tensor: tensor.cpu().numpy()
    from onnxruntime import OrtValue

    return (
        lambda array: OrtValue.ortvalue_from_numpy(array, kind, int(index or 0)),
        lambda value: value.numpy(),
    )

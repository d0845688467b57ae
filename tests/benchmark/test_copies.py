"""Copies to a device and back: what is copied, where to, and which sessions have no copies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import onnxruntime
import pytest
import torch
from host_device import HostDevice
from tensorrt_double import install, write_engine

from gsp_deploy import open_session
from gsp_deploy.benchmark import BenchmarkSettings
from gsp_deploy.benchmark.copies import measure_copies, time_copies
from gsp_deploy.benchmark.timing import Rounds

SETTINGS = BenchmarkSettings((2,), warmup=1, repeats=4, device="cuda:1", memory=False)


@pytest.fixture
def places(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, tuple[int, ...]]]:
    """Copy to the host instead of a GPU, and list the target and shape of each copy."""
    sent = []
    to, from_numpy = torch.Tensor.to, onnxruntime.OrtValue.ortvalue_from_numpy

    def torch_to(tensor: torch.Tensor, place: str) -> torch.Tensor:
        sent.append((place, tuple(tensor.shape)))
        return to(tensor, "cpu", copy=True)

    def onnx_from(array: np.ndarray, kind: str, index: int) -> onnxruntime.OrtValue:
        sent.append((f"{kind}:{index}", array.shape))
        return from_numpy(array, "cpu", 0)

    monkeypatch.setattr(torch.Tensor, "to", torch_to)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda place: sent.append((place, ())))
    monkeypatch.setattr(onnxruntime.OrtValue, "ortvalue_from_numpy", staticmethod(onnx_from))
    return sent


@pytest.fixture(params=["torch", "onnxruntime"])
def session(request, tiny_checkpoint, tiny_export):
    path = tiny_checkpoint if request.param == "torch" else tiny_export
    with open_session(path) as opened:
        yield opened


def test_a_batch_goes_in_and_its_embeddings_come_out(session, places) -> None:
    found = measure_copies(session, 2, SETTINGS)
    assert (found.to_device.rounds, found.from_device.rounds) == (4, 4)
    moves = [move for move in places if move[1]]
    assert moves == [("cuda:1", (2, 8)), *[("cuda:1", (2, 3, 32, 32))] * (1 + 4)]
    waits = [place for place, shape in places if not shape]
    assert waits == (["cuda:1"] * len(moves) if "torch" in session.info.runtime else [])


def test_there_is_nothing_to_copy_on_the_cpu(session, places) -> None:
    assert measure_copies(session, 2, replace(SETTINGS, device="cpu")) is None
    assert places == []


def test_an_engine_has_its_copies_among_its_stages(tiny_export, tmp_path, monkeypatch) -> None:
    from pathlib import Path

    card: HostDevice = install(monkeypatch)
    with open_session(write_engine(card, Path(tiny_export), tmp_path / "t.engine")) as engine:
        card.log.clear()
        assert measure_copies(engine, 2, SETTINGS) is None
        assert card.log == []


def test_the_download_returns_what_was_uploaded_before_timing() -> None:
    log: list[tuple[str, Sequence[float]]] = []

    def upload(array: np.ndarray) -> list[float]:
        log.append(("in", array.tolist()))
        return array.tolist()

    def download(there: list[float]) -> np.ndarray:
        log.append(("out", there))
        return np.array(there)

    time_copies(upload, download, np.array([1.0]), np.array([2.0]), Rounds(1, 3))
    assert log[0] == ("in", [2.0])
    assert sorted(log[1:]) == sorted([("in", [1.0]), ("out", [2.0])] * 4)

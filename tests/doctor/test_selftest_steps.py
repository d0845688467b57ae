"""The steps of the self-test, their order, and the state of each kind of failure."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tensorrt_double import install, write_engine_of

from gsp_deploy.doctor import selftest
from gsp_deploy.doctor.diagnosis import Diagnosis, diagnose
from gsp_deploy.doctor.selftest import ASSETS, golden, run_selftest
from gsp_deploy.engine.api import installed_flavours
from gsp_deploy.errors import GateError, GspDeployError, MissingCapabilityError

NO_GPU = "no usable CUDA device here"


@pytest.fixture(scope="module")
def diagnosis() -> Diagnosis:
    return replace(diagnose(), no_gpu=NO_GPU)


def states(diagnosis: Diagnosis) -> dict[str, str]:
    return {step.name: step.state for step in run_selftest(diagnosis).steps}


def test_an_engine_is_built_without_a_gpu_and_its_run_is_skipped(diagnosis) -> None:
    if "tensorrt-rtx" not in installed_flavours():
        pytest.skip("TensorRT-RTX is not installed: its wheels are for x86-64 Linux")
    observed: list[str] = []
    found = run_selftest(diagnosis, observed.append)
    steps = {step.name: step for step in found.steps}
    built, ran = steps["build with tensorrt-rtx"], steps["run with tensorrt-rtx"]
    assert built.state == "passed", built
    layers, size = built.detail.split(" layers, ")[0], built.detail.split()[2]
    assert int(layers) > 10
    assert int(size.replace(",", "")) > 10_000
    assert (ran.state, ran.detail) == ("skipped", NO_GPU)
    assert observed[-1] == "building an engine with tensorrt-rtx"
    found.check()


def test_without_a_runtime_every_step_is_skipped(diagnosis, monkeypatch) -> None:
    monkeypatch.setattr(selftest, "can_import", lambda module: False)
    monkeypatch.setattr(selftest, "installed_flavours", lambda: ())
    assert states(diagnosis) == {
        "ONNX Runtime": "skipped",
        "OpenVINO": "skipped",
        "engine": "skipped",
    }
    with pytest.raises(MissingCapabilityError, match="found none; pip install"):
        run_selftest(diagnosis).check()


@pytest.mark.parametrize(
    ("providers", "no_gpu", "tried"),
    [
        (("CPUExecutionProvider",), None, False),
        (("CUDAExecutionProvider",), NO_GPU, False),
        (("CUDAExecutionProvider",), None, True),
    ],
)
def test_onnx_runtime_is_tried_on_a_gpu_if_its_provider_and_cuda_have_one(
    diagnosis, monkeypatch, providers, no_gpu, tried: bool
) -> None:
    monkeypatch.setattr(selftest, "installed_flavours", lambda: ())
    asked: list[tuple[str, ...]] = []
    monkeypatch.setattr(selftest, "_embed_onnx", lambda *on: asked.append(on) or "done")
    run_selftest(replace(diagnosis, providers=providers, no_gpu=no_gpu))
    assert asked == [("cpu",), *[("cuda",)] * tried, ("cpu", "openvino")]


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (GateError("wrong"), "failed"),
        (MissingCapabilityError("no plugin"), "skipped"),
        (GspDeployError("no memory"), "error"),
        (ModuleNotFoundError("no onnx"), "error"),
    ],
)
def test_a_failed_build_is_reported_and_nothing_runs(
    diagnosis, monkeypatch, error: Exception, state: str
) -> None:
    def build(flavour: str, path: object) -> str:
        raise error

    monkeypatch.setattr(selftest, "installed_flavours", lambda: ("tensorrt",))
    monkeypatch.setattr(selftest, "_build", build)
    steps = run_selftest(replace(diagnosis, no_gpu=None)).steps
    assert (steps[-1].name, steps[-1].state) == ("build with tensorrt", state)
    assert steps[-1].detail == str(error)


def test_an_engine_with_wrong_numbers_fails_alone_and_side_by_side(diagnosis, monkeypatch) -> None:
    card = install(monkeypatch)
    right = golden

    def wrong(batch: int = 2) -> dict[str, np.ndarray]:
        case = right(batch)
        return {**case, "weights": case["weights"] + 2e-4}

    monkeypatch.setattr(selftest, "installed_flavours", lambda: ("tensorrt",))
    monkeypatch.setattr(
        selftest, "_build", lambda _, path: write_engine_of(card, ASSETS / "selftest.onnx", path)
    )
    monkeypatch.setattr(selftest, "golden", wrong)
    found = states(replace(diagnosis, no_gpu=None))
    assert found["parity with tensorrt"] == "failed"
    assert found["several sessions with tensorrt"] == "failed"
    assert found["latency with tensorrt"] == "passed"  # latency does not depend on the numbers
    assert card.alive() == {}

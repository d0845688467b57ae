"""What `doctor` reports, and that its self-test can fail."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from host_device import HostDevice
from tensorrt_double import VERSION, install

from gsp_deploy.doctor import diagnosis, needs, selftest
from gsp_deploy.doctor.diagnosis import Diagnosis, diagnose
from gsp_deploy.doctor.needs import NEEDS, needs_beside_packages, readiness
from gsp_deploy.doctor.selftest import ASSETS, SelfTest, Step, golden, run_selftest
from gsp_deploy.errors import GateError, GspDeployError, MissingCapabilityError, ModelFileError
from gsp_deploy_cli.main import main


def test_a_batch_of_any_size_repeats_the_golden_inputs() -> None:
    assert [len(array) for array in golden(5).values()] == [5] * 4
    np.testing.assert_array_equal(golden(5)["embedding"][3], golden(2)["embedding"][1])


def test_a_missing_package_is_named_with_its_install_command(monkeypatch) -> None:
    monkeypatch.setattr(needs, "can_import", lambda module: module not in ("faiss", "tensorrt"))
    device, provider = needs_beside_packages()
    found = {state.command: state for state in readiness([device, provider])}
    assert found.keys() == NEEDS.keys()
    assert found["train"].is_ready
    assert found["index, search, migrate-check"].remedies == ("pip install 'gsp-deploy[search]'",)
    assert found["build for this GPU"].missing == ("tensorrt", "a CUDA device")
    assert found["check, embed, bench with .engine"].missing == ("a CUDA device",)  # RTX is there
    assert all(state.is_ready == (not state.remedies) for state in found.values())


def test_this_machine_is_described_even_if_packages_are_missing() -> None:
    found = diagnose()
    assert found.packages["numpy"] == np.__version__
    assert "CPUExecutionProvider" in found.providers
    assert (found.no_gpu is None) == bool(found.gpu)
    json.dumps(found.to_dict())


def test_the_lean_runtime_is_listed_where_it_is_installed(monkeypatch) -> None:
    monkeypatch.setattr(diagnosis, "installed_runtimes", lambda: ("tensorrt-lean",))
    monkeypatch.setattr(diagnosis, "_tensorrt", lambda name: f"the version of {name}")
    found = diagnose().tensorrt
    assert list(found) == ["TensorRT", "TensorRT-RTX", "TensorRT lean runtime"]
    assert found["TensorRT lean runtime"] == "the version of tensorrt-lean"
    monkeypatch.setattr(needs, "can_import", lambda module: "lean" not in module)
    states = {state.command: state for state in readiness([])}
    lean = states["embed, bench with a lean .engine"]
    assert lean.remedies == ("pip install 'gsp-deploy[lean]'",)


def test_a_device_is_described_with_its_memory(monkeypatch) -> None:
    device = HostDevice(memory=8 << 30)
    install(monkeypatch, device)
    monkeypatch.setattr(diagnosis, "open_device", lambda index, api: device)
    monkeypatch.setattr(diagnosis, "choose_api", lambda api: api)
    found = diagnose()
    assert found.no_gpu is None
    assert found.gpu["name"] == "host double, compute capability 8.6"
    assert found.gpu["free memory"] == "8,192 of 8,192 MiB"
    assert "clocks" in found.gpu  # NVML knows no such device


def test_a_missing_plugin_library_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="no such plugin library"):
        diagnose(plugin=tmp_path / "none.so")


@pytest.fixture
def without_engines(monkeypatch: pytest.MonkeyPatch) -> Diagnosis:
    """Diagnose this machine as if TensorRT were not installed; builds have their own tests."""
    monkeypatch.setattr(selftest, "installed_flavours", lambda: ())
    return diagnose()


def test_the_selftest_passes_on_the_cpu(without_engines: Diagnosis) -> None:
    found = run_selftest(without_engines)
    states = {step.name: step.state for step in found.steps}
    assert states["ONNX Runtime on the CPU"] == "passed"
    assert states["engine"] == "skipped"
    found.check()


def test_the_selftest_fails_when_numbers_are_wrong(without_engines, monkeypatch) -> None:
    right = golden(2)
    wrong = {**right, "embedding": right["embedding"] + 2e-5}
    monkeypatch.setattr(selftest, "golden", lambda batch=2: wrong)
    with pytest.raises(GateError, match=r"differ from the authors' by 2e-05, more than 1e-05"):
        run_selftest(without_engines).check()
    monkeypatch.setattr(
        selftest, "golden", lambda batch=2: {**right, "weights": right["weights"] * np.nan}
    )
    with pytest.raises(GateError, match="by nan"):
        run_selftest(without_engines).check()


@pytest.mark.parametrize(
    ("states", "error", "code"),
    [
        (("passed", "error", "failed"), GateError, 3),
        (("passed", "error"), GspDeployError, 1),
        (("skipped",), MissingCapabilityError, 4),
    ],
)
def test_the_worst_step_decides_the_exit_code(states, error, code) -> None:
    steps = tuple(Step(str(index), state, "why") for index, state in enumerate(states))
    with pytest.raises(error) as caught:
        SelfTest(steps).check()
    assert caught.value.exit_code == code


def test_engines_are_built_and_run_on_doubles(monkeypatch) -> None:
    """Run the steps that need a GPU on a test double: parity, threads, latency."""
    device = install(monkeypatch)
    from tensorrt_double import write_engine_of

    monkeypatch.setattr(selftest, "installed_flavours", lambda: ("tensorrt",))
    monkeypatch.setattr(
        selftest,
        "_build",
        lambda flavour, path: write_engine_of(device, ASSETS / "selftest.onnx", path),
    )
    here = replace(diagnose(), no_gpu=None)
    found = run_selftest(here)
    states = {step.name: step.state for step in found.steps}
    assert [state for name, state in states.items() if "tensorrt" in name] == ["passed"] * 4, found
    assert device.alive() == {}
    assert VERSION == "10.3.0"


def test_the_command_prints_one_document(without_engines, monkeypatch, capsys) -> None:
    monkeypatch.setattr(sys, "argv", ["gsp-deploy", "doctor", "--selftest", "--json"])
    with pytest.raises(SystemExit) as stop:
        main()
    assert not stop.value.code
    document = json.loads(capsys.readouterr().out)
    assert (document["document"], document["selftest"]["steps"][0]["state"]) == ("doctor", "passed")
    assert {command["command"] for command in document["commands"]} == NEEDS.keys()


def test_the_command_prints_for_people(without_engines, monkeypatch, capsys) -> None:
    monkeypatch.setattr(sys, "argv", ["gsp-deploy", "doctor"])
    with pytest.raises(SystemExit):
        main()
    out = capsys.readouterr().out
    for section in ("Machine", "GPU", "Runtimes", "Packages", "Commands"):
        assert section in out
    assert "Self-test" not in out

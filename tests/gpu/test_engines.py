"""What only a GPU can show: engines built, run, captured, shared, and nothing left behind."""

from __future__ import annotations

import resource
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gsp_deploy.artifact.engine_manifest import read_engine_sidecar
from gsp_deploy.benchmark import BenchmarkSettings, run_benchmark
from gsp_deploy.benchmark.gpu.layers import UNATTRIBUTED
from gsp_deploy.device import open_device
from gsp_deploy.doctor.diagnosis import diagnose
from gsp_deploy.doctor.selftest import run_selftest
from gsp_deploy.engine.api import installed_flavours
from gsp_deploy.errors import DeviceError, MissingCapabilityError
from gsp_deploy.runtime import open_session

# float16 backbone against float32; the solver is float32 in both.
CLOSE = {"fp32": 1e-4, "fp16": 2e-2}
OUTPUTS = ("embedding", "attributes", "weights")
CALLS = 10_000
MEBIBYTE = 1 << 20


def pixels(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 32, 32, 3), np.uint8)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_engines_are_built_for_this_gpu(engines: Path, precision: str) -> None:
    manifest = read_engine_sidecar(engines / f"{precision}.engine")
    assert manifest.precision.asked == precision
    assert open_device().properties().compute_capability in manifest.compute_capabilities
    assert len(manifest.profiles) == 2


@pytest.mark.parametrize("graphs", [True, False])
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_engines_compute_what_their_onnx_does(engines, precision: str, graphs: bool) -> None:
    with (
        open_session(engines / "fp32.onnx") as expected,
        open_session(engines / f"{precision}.engine", cuda_graphs=graphs) as session,
    ):
        for count in (1, 2, 7, 16, 37, 1, 2, 7, 16, 37, 7):
            images = pixels(count, seed=count)
            found, wanted = session.run(images, OUTPUTS), expected.run(images, OUTPUTS)
            for name in OUTPUTS:
                np.testing.assert_allclose(found[name], wanted[name], atol=CLOSE[precision])


def test_captured_runs_equal_plain_ones_to_the_bit(engines) -> None:
    with (
        open_session(engines / "fp32.engine") as captured,
        open_session(engines / "fp32.engine", cuda_graphs=False) as plain,
    ):
        for seed in range(6):
            images = pixels(8, seed)
            np.testing.assert_array_equal(captured.embed(images), plain.embed(images))
        assert captured.runner.no_graphs is None
        assert any(shape.graph is not None for shape in captured.runner._shapes.values())


def test_sessions_share_an_engine_in_threads(engines) -> None:
    with open_session(engines / "fp32.engine") as first:
        wanted = {n: first.embed(pixels(n, n)) for n in range(1, 17)}
        sessions = [first.another() for _ in range(4)]

        def work(session) -> None:
            for n in list(wanted) * 5:
                np.testing.assert_array_equal(session.embed(pixels(n, n)), wanted[n])

        with ThreadPoolExecutor(len(sessions)) as pool:
            list(pool.map(work, sessions))
        for session in sessions:
            session.close()


@pytest.mark.slow
def test_nothing_leaks_over_ten_thousand_calls(engines) -> None:
    device = open_device()
    with open_session(engines / "fp32.engine") as session:
        for count in range(1, 17):
            session.embed(pixels(count))
            session.embed(pixels(count))
        with device.current():
            free = device.memory().free
        resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        batches = [pixels(count) for count in range(1, 17)]
        for call in range(CALLS):
            session.embed(batches[call % len(batches)])
        with device.current():
            assert free - device.memory().free < 8 * MEBIBYTE
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - resident
        assert grown * 1024 < 64 * MEBIBYTE


def test_opening_and_closing_gives_the_memory_back(engines) -> None:
    device, free = open_device(), []
    for _ in range(20):
        with open_session(engines / "fp32.engine") as session:
            session.embed(pixels(16))
        with device.current():
            free.append(device.memory().free)
    assert free[4] - free[-1] < 8 * MEBIBYTE


def test_torch_tensors_stay_on_the_gpu(engines) -> None:
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("torch sees no CUDA device")
    with open_session(engines / "fp32.engine") as session:
        images = session.prepare(pixels(21))
        wanted = session.embed(images)
        tensor = torch.from_numpy(images).cuda()
        stream = torch.cuda.current_stream().cuda_stream
        for options in ({}, {"stream": stream}):
            result = session.embed_device(tensor, **options)
            np.testing.assert_array_equal(torch.from_dlpack(result).cpu().numpy(), wanted)
        out = torch.empty(wanted.shape, device="cuda")
        session.embed_device(tensor, out=out)
        np.testing.assert_array_equal(out.cpu().numpy(), wanted)


@pytest.mark.parametrize("api", ["cuda-python", "pycuda"])
def test_both_ways_to_the_device(engines, api: str) -> None:
    try:
        session = open_session(engines / "fp32.engine", cuda_api=api)
    except MissingCapabilityError as error:
        pytest.skip(str(error))
    with session, open_session(engines / "fp32.onnx") as expected:
        images = pixels(20)
        np.testing.assert_allclose(session.embed(images), expected.embed(images), atol=1e-4)


def test_out_of_memory_has_cudas_name() -> None:
    device = open_device()
    with device.current(), pytest.raises(DeviceError, match=r"MemoryAllocation|out of memory"):
        device.allocate(1 << 50)


@pytest.mark.parametrize("provider", ["cuda", "tensorrt"])
def test_onnx_runtime_on_the_gpu(exported, provider: str, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    try:
        session = open_session(exported / "fp32.onnx", "cuda", provider=provider)
    except MissingCapabilityError as error:
        pytest.skip(str(error))
    with session, open_session(exported / "fp32.onnx") as expected:
        images = pixels(9)
        np.testing.assert_allclose(session.embed(images), expected.embed(images), atol=1e-3)


def test_a_benchmark_takes_an_engine_apart(engines) -> None:
    settings = BenchmarkSettings((1, 8), repeats=30, device="cuda", memory=False, sustained=2.0)
    report = run_benchmark([engines / "fp32.engine"], settings)
    for result in report.models[0].batches:
        gpu = result.gpu
        for stages in (gpu.with_graphs, gpu.without_graphs):
            parts = stages.to_device.p50 + stages.compute.p50 + stages.from_device.p50
            assert 0 < stages.compute.p50 < parts <= stages.end_to_end.p50 * 1.1
        assert gpu.cost is not None
        assert gpu.layers.parts().get(UNATTRIBUTED, 0) < gpu.layers.total
        assert gpu.sustained.telemetry is None or gpu.sustained.telemetry.samples > 5
    cold = run_benchmark([engines / "fp32.engine"], replace(settings, l2="cold", sustained=None))
    assert cold.models[0].batches[0].gpu.stages.compute.p50 > 0


def test_the_selftest_passes_here() -> None:
    found = run_selftest(diagnose())
    assert all(step.state in ("passed", "skipped") for step in found.steps), found.steps
    has_parity = any(step.name.startswith("parity") for step in found.steps)
    assert has_parity or not installed_flavours()

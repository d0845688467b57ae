"""An engine next to its ONNX file: its twin, layers and trtexec command, on test doubles."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from engine_double import ContextDouble
from host_device import HostDevice
from tensorrt_double import install, write_engine

from gsp_deploy.base.files import sha256_of
from gsp_deploy.benchmark import BenchmarkSettings, run_benchmark
from gsp_deploy.benchmark.gpu import measure
from gsp_deploy.benchmark.gpu.layers import UNATTRIBUTED
from gsp_deploy.benchmark.gpu.trtexec import measured, trtexec_command
from gsp_deploy.engine.options import BuildOptions
from gsp_deploy.errors import UsageError

SETTINGS = BenchmarkSettings((2,), warmup=1, repeats=5, device="cuda", memory=False)
POOLING_MS = 0.5


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> HostDevice:
    return install(monkeypatch)


@pytest.fixture
def engine(device: HostDevice, tiny_export: str, tmp_path: Path) -> Path:
    """Return a plan next to the ONNX file that its manifest names."""
    for file in (tiny_export, f"{tiny_export}.json"):
        shutil.copy(file, tmp_path)
    digest = sha256_of(Path(tiny_export))
    return write_engine(device, Path(tiny_export), tmp_path / "tiny.engine", onnx_sha256=digest)


@pytest.fixture
def twins(device: HostDevice, tiny_export: str, monkeypatch) -> list[BuildOptions]:
    """Build twins as test doubles, let the pooling take time, and list the build options."""
    asked: list[BuildOptions] = []

    def build(onnx: Path, target: Path, options: BuildOptions, flavour: str) -> None:
        asked.append(options)
        (batch,) = options.batches
        write_engine(device, onnx, target, (batch.min, batch.opt, batch.max))

    run = ContextDouble._run

    def slower(self: ContextDouble) -> None:
        if self.engine.session._model_path == tiny_export:
            device.now_ms += POOLING_MS
        run(self)

    monkeypatch.setattr("gsp_deploy.benchmark.engine_twin.build_engine", build)
    monkeypatch.setattr(ContextDouble, "_run", slower)
    return asked


@pytest.fixture
def profiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Contexts report two layers per run to their profiler: one of the head, one unknown."""
    execute = ContextDouble.execute_async_v3

    def reporting(self: ContextDouble, handle: int) -> bool:
        if getattr(self, "profiler", None) is not None:
            self.profiler.report_layer_time("gsp/newton_1/mean", 2.0)
            self.profiler.report_layer_time("something", 6.0)
        return execute(self, handle)

    monkeypatch.setattr(ContextDouble, "execute_async_v3", reporting)
    module = SimpleNamespace(IProfiler=type("IProfiler", (), {}))
    monkeypatch.setattr(measure, "load_tensorrt", lambda flavour: SimpleNamespace(module=module))


def test_the_cost_compares_compute_with_the_twins(engine, device, twins) -> None:
    (model,) = run_benchmark([engine], SETTINGS).models
    (result,) = model.batches
    assert model.no_twin is None
    assert [str(batch) for options in twins for batch in options.batches] == ["1:4:8"]
    for stages in (result.gpu.with_graphs, result.gpu.without_graphs):
        assert stages.compute.p50 == pytest.approx(1 + POOLING_MS)
    cost = result.gpu.cost
    assert (cost.ratio_low, cost.ratio, cost.ratio_high) == pytest.approx((1.5, 1.5, 1.5))
    assert cost.extra_ms == pytest.approx(POOLING_MS)
    assert device.alive() == {}


def test_layers_are_attributed_by_the_file_beside_the_engine(engine, device, profiled) -> None:
    report = run_benchmark([engine], SETTINGS)
    layers = report.models[0].batches[0].gpu.layers
    assert layers.parts() == {"head: newton step 1": 2.0, UNATTRIBUTED: 6.0}
    assert layers.head_share == 0.25
    assert not any("no layers" in note for note in report.notes)
    assert device.alive() == {}


def test_a_changed_onnx_file_gives_neither_layers_nor_twin(engine, twins, profiled) -> None:
    onnx = engine.with_suffix(".onnx")
    onnx.write_bytes(onnx.read_bytes() + b"\0")
    report = run_benchmark([engine], SETTINGS)
    assert "is not beside it or has changed" in report.models[0].no_twin
    assert report.models[0].batches[0].gpu.layers is None
    assert sum("has changed" in note for note in report.notes) >= 1
    assert twins == []


def test_trtexec_uses_the_profile_that_takes_the_batch(engine) -> None:
    found = measured(engine, 8, SETTINGS, [Path("libgsp.so")])
    assert (found.shape, found.profile, found.is_dynamic) == ((8, 3, 32, 32), 0, True)
    words = shlex.split(trtexec_command(found, SETTINGS, 10))
    assert {"--shapes=images:8x3x32x32", "--dynamicPlugins=libgsp.so"} <= set(words)
    with pytest.raises(UsageError, match="9"):
        measured(engine, 9, SETTINGS, [])

"""Mapping TensorRT's layer names to PyTorch modules and solver steps."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from engine_double import EngineDouble, share
from host_device import HostDevice

from gsp_deploy.benchmark.gpu.layers import (
    UNATTRIBUTED,
    LayerMap,
    LayerProfile,
    LayerTime,
    modules_of,
    profile_layers,
)
from gsp_deploy.runtime import SessionOptions
from gsp_deploy.runtime.batching import InputProfile
from gsp_deploy.runtime.tensorrt_session import TensorRTSession

MODULES = {
    "node_conv2d": "backbone.conv1 + bn1",
    "node_conv2d_1": "backbone.layer1.0.conv1",
    "node_relu": "backbone.act1",
    "gsp/embed": "head.embed",
    "gsp/newton_1/mean": "head",
    "gsp/newton_12/mean": "head",
    "gsp/fixed_point_3/beta": "head",
    "gsp/weights": "head",
    "": "",
}


@pytest.mark.parametrize(
    ("layer", "part"),
    [
        ("node_conv2d", "backbone.conv1 + bn1"),
        ("node_conv2d_1", "backbone.layer1.0.conv1"),
        ("node_conv2d + node_relu", "backbone.act1 + backbone.conv1 + bn1"),
        ("PWN(node_relu)", "backbone.act1"),
        ("gsp/newton_1/mean", "head: newton step 1"),
        ("gsp/newton_12/mean", "head: newton step 12"),
        ("gsp/fixed_point_3/beta", "head: fixed-point step 3"),
        ("PWN(gsp/newton_1/mean, gsp/newton_12/mean)", "head: newton step 1, newton step 12"),
        ("{ForeignNode[gsp/embed...gsp/weights]}", "head: embed, weights"),
        ("gsp/square_0", "head: square_0"),
        ("Reformatting CopyNode for Input Tensor 0 to node_conv2d", "backbone.conv1 + bn1"),
        ("__myl_FcMulAdd_myl0_3", UNATTRIBUTED),
        ("node_conv2d_17", UNATTRIBUTED),
    ],
)
def test_the_part_of_a_layer(layer: str, part: str) -> None:
    assert LayerMap(MODULES).part(layer) == part


def test_every_node_of_an_export_has_a_part(tiny_export) -> None:
    modules = modules_of(Path(tiny_export))
    parts = LayerMap(modules)
    found = {parts.part(node) for node in modules}
    assert UNATTRIBUTED not in found
    assert {f"head: newton step {step}" for step in (1, 2, 3)} <= found
    assert sum(part.startswith("backbone") for part in found) > 5


def test_a_profile_adds_up_with_unattributed_time_last() -> None:
    layers = [("a", "backbone.x", 1), ("b", UNATTRIBUTED, 5), ("c", "head: embed", 2)]
    profile = LayerProfile(tuple(LayerTime(*layer) for layer in layers), 3)
    assert list(profile.parts().items()) == [
        ("head: embed", 2), ("backbone.x", 1), (UNATTRIBUTED, 5),
    ]  # fmt: skip
    assert (profile.total, profile.head_share) == (8, 0.25)


class IProfiler:
    pass


def test_layers_are_reported_by_the_profiler_of_a_run(head_engine, monkeypatch) -> None:
    """The test double reports two layers per run, as TensorRT does through `IProfiler`."""
    session, inputs = head_engine
    original, runs = EngineDouble.create_execution_context, []

    def execute(self, handle):
        done = type(self).execute_async_v3(self, handle)
        if getattr(self, "profiler", None) is not None:
            runs.append(1)
            self.profiler.report_layer_time("gsp/embed", 2.0 + len(runs))
            self.profiler.report_layer_time("other", 1.0)
        return done

    def create(self, strategy):
        context = original(self, strategy)
        context.execute_async_v3 = execute.__get__(context)
        return context

    monkeypatch.setattr(EngineDouble, "create_execution_context", create)
    tensorrt = SimpleNamespace(module=SimpleNamespace(IProfiler=IProfiler))
    found = profile_layers(session, tensorrt, inputs, 5, LayerMap(MODULES))
    assert found.layers == (
        LayerTime("gsp/embed", "head: embed", 5.0),
        LayerTime("other", UNATTRIBUTED, 1.0),
    )


@pytest.fixture
def head_engine(tiny_export):
    device = HostDevice()
    shapes = [(batch, 3, 32, 32) for batch in (1, 2, 4)]
    engine = EngineDouble(tiny_export, device, [InputProfile(*shapes)])
    options = SessionOptions("cuda", cuda_graphs=False)
    with TensorRTSession(share(tiny_export, engine), None, options) as session:
        yield session, np.zeros((2, 3, 32, 32), np.float32)

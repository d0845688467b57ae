"""The plugin in the registries of real TensorRT, by its lean runtimes, which need no GPU.

Python's bindings can create a plugin of C++, but neither clone nor serialise one: the contract host
does that in the same registry.
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from adapter_build import build_adapter
from native_headers import lean_libraries

from gsp_deploy.artifact.pooling_node import PoolingAttributes

LIBRARIES = lean_libraries()
VERSIONS = tuple(LIBRARIES) or ("installed",)
SCRIPT = """
import json, os, sys
import numpy as np
import tensorrt_lean_bindings as trt

def collection(attributes):
    fields = []
    for name, value in attributes.items():
        if isinstance(value, str):
            array, kind = np.frombuffer(value.encode(), np.int8), trt.PluginFieldType.CHAR
        elif isinstance(value, float):
            array, kind = np.array([value], np.float32), trt.PluginFieldType.FLOAT32
        else:
            array, kind = np.array([value], np.int32), trt.PluginFieldType.INT32
        kept.append(array)
        fields.append(trt.PluginField(name, array, kind))
    return trt.PluginFieldCollection(fields)

kept = []
registry = trt.get_plugin_registry()
assert registry.load_library(sys.argv[1]) is not None
creator = registry.get_creator("GeneralizedSumPooling", "1", "gsp.deploy")
made = []
for attributes in json.loads(sys.argv[2]):
    plugin = creator.create_plugin("node", collection(attributes), trt.TensorRTPhase.BUILD)
    core = plugin and plugin.get_capability_interface(trt.PluginCapabilityType.CORE)
    made.append(core and [core.plugin_name, core.plugin_version, core.plugin_namespace])
names = [field.name for field in creator.field_names]
print(json.dumps({"version": trt.__version__, "fields": names, "made": made}), flush=True)
os._exit(0)  # without a driver, TensorRT's own shutdown is not to be relied on
"""
PLUGIN = ["GeneralizedSumPooling", "1", "gsp.deploy"]


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Callable[[int], tuple[Path, Path]]:
    """Return a function that builds the plugin and its host with headers of a major version."""
    done: dict[int, tuple[Path, Path]] = {}

    def build(major: int) -> tuple[Path, Path]:
        if major not in done:
            done[major] = build_adapter(tmp_path_factory.mktemp(f"adapter{major}"), major)
        return done[major]

    return build


@pytest.fixture(params=VERSIONS)
def lean(request: pytest.FixtureRequest) -> Path:
    """The library of one lean runtime."""
    if request.param not in LIBRARIES:
        pytest.skip("TensorRT's lean runtime is not installed: pip install 'gsp-deploy[lean]'")
    return LIBRARIES[request.param]


def major_version(library: Path) -> int:
    return int(library.suffix[1:])


def create(lean: Path, plugin: Path, modes: list[dict]) -> dict:
    """Create plugins from Python, in a process of its own with that runtime."""
    site = str(lean.parent.parent)
    environment = {**os.environ, "PYTHONPATH": site}
    command = [sys.executable, "-c", SCRIPT, str(plugin), json.dumps(modes)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return {**json.loads(done.stdout), "log": done.stderr}


def every_mode() -> list[dict]:
    """Return the attributes of every mode, with every choice of outputs and types."""
    choices = itertools.product(
        ("gap", "gmp", "gem"), ("fixed-point", "newton", "certified"), ("fp32", "fp16", "bf16"),
        (0, 1), (0, 1), (0, 1),
    )  # fmt: skip
    return [
        vars(
            PoolingAttributes(
                pooling=pooling,
                solver=solver,
                iterations=3,
                transport_ratio=0.3,
                entropy_weight=5.0,
                grid_points=63 if solver == "certified" else 0,
                output_type=kind,
                output_weights=weights,
                output_attributes=attributes,
                output_residual=residual,
            )
        )
        for pooling, solver, kind, weights, attributes, residual in choices
    ]


def test_python_creates_every_mode_in_the_real_registry(lean: Path, built) -> None:
    plugin, _ = built(major_version(lean))
    found = create(lean, plugin, every_mode())
    assert found["version"].startswith(f"{major_version(lean)}.")
    assert set(found["fields"]) == set(every_mode()[0])
    assert found["made"] == [PLUGIN] * 216


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"pooling": "max"}, "pooling must be one of gap, gmp, gem, got max"),
        ({"transport_ratio": 1.5}, "transport_ratio must be above 0 and at most 1, got 1.5"),
        ({"iterations": 1.0}, "iterations must be"),
        ({"sharpness": 1}, "unknown attribute sharpness"),
        ({"grid_points": 63}, "grid_points must be 0 unless the solver is certified"),
    ],
)
def test_bad_attributes_are_refused_through_tensorrts_log(change, reason, lean, built) -> None:
    plugin, _ = built(major_version(lean))
    newton = every_mode()[8 * 3]
    assert newton["solver"] == "newton"
    found = create(lean, plugin, [{**newton, **change}, newton])
    assert found["made"] == [None, PLUGIN]
    assert reason in found["log"]


def test_the_contract_holds_in_the_real_registry(lean: Path, built) -> None:
    plugin, host = built(major_version(lean))
    command = [str(host), str(plugin), "--registry", str(lean)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-600:] + done.stderr
    assert "ok TensorRT's registry loads the library" in done.stdout
    assert "ok every mode is created, serialised, created again and cloned" in done.stdout
    assert done.stdout.endswith("the contract holds\n")

"""Which runtime runs a plan: TensorRT itself, its lean runtime, or its dispatch runtime."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from builder_double import job_of
from tensorrt_double import write_engine

from gsp_deploy.artifact.engine_manifest import EngineManifest, read_engine_sidecar
from gsp_deploy.engine import api, machine
from gsp_deploy.engine.api import cuda_of, runtime_for, runtimes_of
from gsp_deploy.engine.machine import Machine, misfits
from gsp_deploy.engine.options import BuildOptions
from gsp_deploy.engine.retries import build_plan
from gsp_deploy.errors import ConfigError, UsageError

FULL, LEAN, DISPATCH = "tensorrt", "tensorrt-lean", "tensorrt-dispatch"
VC = {"version_compatible": True}
BARE = {"version_compatible": True, "lean": True}
VERSION = "10.3.0"


@pytest.fixture
def manifest(tiny_export: str, tmp_path: Path):
    """Return a function that returns the manifest of an engine."""

    def make(**changes: object) -> EngineManifest:
        device = SimpleNamespace(profiles={})
        path = write_engine(device, Path(tiny_export), tmp_path / "tiny.engine", **changes)
        found = read_engine_sidecar(path)
        assert found is not None
        return found

    return make


def install(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    for place in (api, machine):
        monkeypatch.setattr(place, "installed_runtimes", lambda: names)


@pytest.mark.parametrize(
    ("changes", "installed", "chosen"),
    [
        ({}, (FULL, LEAN), FULL),
        ({}, (LEAN,), FULL),  # which is what to install
        (VC, (FULL, LEAN), FULL),
        (VC, (LEAN, DISPATCH), LEAN),
        (VC, (DISPATCH,), DISPATCH),
        (BARE, (FULL, LEAN), LEAN),
        (BARE, (FULL,), FULL),
        (BARE, (DISPATCH,), LEAN),
        ({"flavour": "tensorrt-rtx"}, (FULL, LEAN), "tensorrt-rtx"),
    ],
)
def test_the_manifest_chooses_the_runtime(
    changes, installed, chosen, manifest, monkeypatch
) -> None:
    install(monkeypatch, *installed)
    assert runtime_for(manifest(**changes)) == chosen


def test_a_plan_without_manifest_takes_what_is_installed(monkeypatch) -> None:
    install(monkeypatch, LEAN)
    assert runtime_for(None) == LEAN
    install(monkeypatch)
    assert runtime_for(None) is None


@pytest.mark.parametrize(
    ("changes", "here", "version", "said"),
    [
        (BARE, LEAN, VERSION, None),
        (BARE, LEAN, "10.16.1", None),
        (BARE, LEAN, "11.4.0", None),
        (BARE, LEAN, "10.2.9", "run on later versions"),
        (BARE, FULL, VERSION, None),
        (BARE, FULL, "10.16.1", r"without its lean runtime, .* pip install 'gsp-deploy\[lean\]'"),
        (BARE, None, None, r"neither is installed here: pip install 'gsp-deploy\[lean\]'"),
        (BARE, DISPATCH, VERSION, "neither is installed here"),
        (VC, LEAN, "11.4.0", None),
        (VC, DISPATCH, VERSION, None),
        (VC, DISPATCH, "10.2.9", "run on later versions"),
        ({}, LEAN, VERSION, "build again with --version-compatible --lean"),
        ({}, None, None, "which is not installed here; install it, or build again$"),
    ],
)
def test_where_a_plan_fits(changes, here, version, said, manifest, monkeypatch) -> None:
    install(monkeypatch, *([here] if here else []))
    found = manifest(**changes)
    there = Machine(here, version, "a GPU", "8.6", "12.6", found.platform)
    misfit = misfits(found, there)
    assert bool(misfit) == (said is not None), misfit
    assert said is None or re.search(said, misfit[0])


def test_only_a_plan_with_a_runtime_inside_contains_host_code(manifest) -> None:
    assert [manifest(**changes).contains_host_code for changes in ({}, VC, BARE)] == [
        False,
        True,
        False,
    ]
    assert set(runtimes_of(manifest(**BARE))) == {LEAN, FULL}
    with pytest.raises(ConfigError, match="a lean engine is version compatible"):
        manifest(lean=True)


def test_lean_goes_with_version_compatible() -> None:
    with pytest.raises(UsageError, match="add --version-compatible"):
        BuildOptions(lean=True)
    assert BuildOptions(**BARE).flags == ("VERSION_COMPATIBLE", "EXCLUDE_LEAN_RUNTIME")


@pytest.mark.parametrize(
    ("options", "is_inside"), [({}, False), (VC, True), (BARE, False)], ids=["", "vc", "lean"]
)
def test_the_plugin_is_inside_where_host_code_is_anyway(options, is_inside: bool) -> None:
    asked = BuildOptions(plugin=Path("p.so"), **options)
    job, builder = job_of(lambda config: b"plan", [], asked)
    build_plan(job, ("8.7",), may_narrow=False)
    inside = getattr(builder.configs[0], "plugins_to_serialize", [])
    assert inside == ([str(Path("p.so").resolve())] if is_inside else [])
    assert asked.puts_plugin_inside == is_inside


@pytest.mark.parametrize(
    ("packages", "flavour", "cuda"),
    [
        (("tensorrt_lean_cu13_libs", "tensorrt-cu12"), FULL, "12"),
        (("tensorrt_cu12_bindings", "tensorrt-lean-cu13-libs"), LEAN, "13"),
        (("tensorrt_rtx_cu13_libs", "tensorrt_dispatch_cu12_libs"), DISPATCH, "12"),
    ],
)
def test_each_runtime_has_a_cuda_of_its_own(packages, flavour, cuda, monkeypatch) -> None:
    found = [SimpleNamespace(metadata={"Name": name}) for name in packages]
    monkeypatch.setattr(api, "distributions", lambda: found)
    assert cuda_of(api.TensorRT(flavour, SimpleNamespace(), VERSION)) == cuda  # type: ignore[arg-type]

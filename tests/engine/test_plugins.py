"""The plugin's library: its description, loading it, and the check against a plan."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from gsp_deploy.artifact.engine_manifest import PluginRecord
from gsp_deploy.artifact.pooling_node import OP_TYPE, PLUGIN_NAMESPACE, PLUGIN_VERSION
from gsp_deploy.base.files import sha256_of
from gsp_deploy.engine.api import TensorRT
from gsp_deploy.engine.plugins import check_plugin, describe_plugin, load_plugin
from gsp_deploy.errors import MissingCapabilityError, ModelFileError, UsageError

ENGINE = Path("model.engine")


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Return a function that compiles a library with the plugin's versions and nothing else."""
    if shutil.which("cc") is None:
        pytest.skip("needs a C compiler")
    folder = tmp_path_factory.mktemp("libraries")

    def build(name: str, abi: int | None = 1, tensorrt: int = 100300) -> Path:
        path, source = folder / f"{name}.so", folder / f"{name}.c"
        lines = [f"int gsp_plugin_abi(void) {{ return {abi}; }}"] if abi is not None else []
        lines.append(f"int gsp_plugin_tensorrt(void) {{ return {tensorrt}; }}")
        lines.append('const char* gsp_plugin_version(void) { return "0.1.0"; }')
        source.write_text("\n".join(lines))
        subprocess.run(["cc", "-shared", "-fPIC", str(source), "-o", str(path)], check=True)
        return path

    return build


class Registry:
    """A registry whose libraries hold the creators that they are said to hold."""

    def __init__(self, loads: bool = True, holds: bool = True) -> None:
        self.loads, self.holds, self.loaded = loads, holds, []

    def load_library(self, path: str) -> object | None:
        self.loaded.append(path)
        return object() if self.loads else None

    def get_creator(self, name: str, version: str, namespace: str) -> object | None:
        asked = (name, version, namespace)
        is_there = self.holds and self.loaded and asked == (OP_TYPE, "1", "gsp.deploy")
        return object() if is_there else None


def tensorrt(registry: Registry, flavour: str = "tensorrt", version: str = "10.3.0") -> TensorRT:
    severity = SimpleNamespace(ERROR=1, INTERNAL_ERROR=2, WARNING=3)
    logger = type("ILogger", (), {"Severity": severity})
    module = SimpleNamespace(ILogger=logger, get_plugin_registry=lambda: registry)
    return TensorRT(flavour, module, version)  # type: ignore[arg-type]


def test_a_library_describes_itself_and_is_loaded_once(library) -> None:
    path, registry = library("good", abi=3), Registry()
    found = describe_plugin(path)
    assert (found.abi, found.version, found.tensorrt) == (3, "0.1.0", (10, 3, 0))
    for _ in range(2):
        record = load_plugin(tensorrt(registry, version="10.16.1.11"), path)
        assert record == PluginRecord(
            OP_TYPE, PLUGIN_NAMESPACE, PLUGIN_VERSION, "good.so", sha256_of(path), 3
        )
    assert registry.loaded == [str(path)]


def test_a_library_that_cannot_load_is_one_line(library, tmp_path) -> None:
    text = tmp_path / "text.so"
    text.write_text("no library")
    cases = [
        (tmp_path / "gone.so", Registry(), ModelFileError, "no such plugin library"),
        (text, Registry(), MissingCapabilityError, "cannot load it as a shared object"),
        (library("other", abi=None), Registry(), ModelFileError, r"it is not libgsp_plugin\.so"),
        (library("eleven", tensorrt=110100), Registry(), MissingCapabilityError, "TensorRT 11.1.0"),
        (library("fine"), Registry(loads=False), ModelFileError, "TensorRT cannot load"),
        (library("fine"), Registry(holds=False), ModelFileError, "has no plugin gsp.deploy::"),
    ]
    for path, registry, error, words in cases:
        with pytest.raises(error, match=words) as caught:
            load_plugin(tensorrt(registry), path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)
    with pytest.raises(UsageError, match="cannot host plugins"):
        load_plugin(tensorrt(Registry(), "tensorrt-rtx"), library("fine"))


def test_a_plan_takes_its_own_library_or_one_of_the_same_abi(library, tmp_path) -> None:
    own, rebuilt, newer = library("own", 1), library("rebuilt", 1, 100900), library("newer", 2)
    record = PluginRecord(OP_TYPE, PLUGIN_NAMESPACE, PLUGIN_VERSION, own.name, sha256_of(own), 1)
    check_plugin(record, [own], ENGINE)
    check_plugin(record, [rebuilt], ENGINE)
    check_plugin(replace(record, abi=9), [own], ENGINE)  # the very file
    foreign = tmp_path / "foreign.so"
    foreign.write_bytes(b"")
    check_plugin(record, [foreign, own], ENGINE)
    for given, words in [
        ([], r"pass --plugin with the path of own\.so"),
        ([newer], r"of ABI 1, and .*newer\.so is of ABI 2; pass the own\.so"),
        ([foreign], r"foreign\.so does not have it"),
    ]:
        with pytest.raises(MissingCapabilityError, match=words):
            check_plugin(record, given, ENGINE)
    with pytest.raises(ModelFileError, match="no such plugin library"):
        check_plugin(record, [own, tmp_path / "gone.so"], ENGINE)

"""Execution providers that come as libraries: found, loaded, pinned, or refused in one line."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from gsp_deploy import open_session
from gsp_deploy.base import platforms
from gsp_deploy.errors import MissingCapabilityError, ModelFileError, UsageError
from gsp_deploy.runtime import ep_libraries
from gsp_deploy.runtime.ep_libraries import Package, devices_of, load_library
from gsp_deploy.runtime.providers import CPU, OPENVINO, TENSORRT_RTX, provider_settings
from gsp_deploy.runtime.session import SessionOptions

_IN_A_PROCESS = """
import json, sys
import numpy as np
from gsp_deploy import open_session
from gsp_deploy.errors import GspDeployError

images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
try:
    with open_session(sys.argv[1], provider="openvino", threads=1) as session:
        found = session.embed(images).tolist()
        print(json.dumps({"embeddings": found, "arithmetic": session.info.arithmetic}))
except GspDeployError as error:
    print(json.dumps({"error": str(error), "code": error.exit_code}))
"""


def device(provider: str, kind: str = "CPU", vendor: str = "Acme") -> SimpleNamespace:
    return SimpleNamespace(
        ep_name=provider, device=SimpleNamespace(type=SimpleNamespace(name=kind), vendor=vendor)
    )


@pytest.fixture
def offered(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return a function that sets the devices of ONNX Runtime, and what each library adds."""
    devices = [device(CPU)]

    def offer(*found: SimpleNamespace, library: tuple[SimpleNamespace, ...] = ()) -> None:
        devices.extend(found)

        def register(name: str, path: str) -> None:
            if not Path(path).read_bytes():
                raise RuntimeError("[ONNXRuntimeError] : 1 : FAIL : libcuda.so.1: cannot open it")
            devices.extend(library)

        monkeypatch.setattr(onnxruntime, "get_ep_devices", lambda: devices)
        monkeypatch.setattr(onnxruntime, "register_execution_provider_library", register)

    monkeypatch.setattr(ep_libraries, "_LOADED", {})
    return offer


@pytest.fixture
def library(tmp_path: Path) -> Path:
    path = tmp_path / "libacme.so"
    path.write_bytes(b"code")
    return path


def test_a_library_is_loaded_once(offered, library: Path) -> None:
    offered(library=(device("AcmeExecutionProvider"),))
    assert load_library(library) == {"AcmeExecutionProvider"}
    assert load_library(library) == {"AcmeExecutionProvider"}
    assert len(onnxruntime.get_ep_devices()) == 2


@pytest.mark.parametrize("device_name", ["cpu", "cuda", "cuda:1"])
def test_the_device_is_the_one_asked_for(device_name: str, offered) -> None:
    both = [device("Acme", kind) for kind in ("GPU", "CPU", "GPU")]
    offered(*both)
    expected = {"cpu": both[1], "cuda": both[0], "cuda:1": both[2]}[device_name]
    assert devices_of("Acme", device_name) == [expected]


def test_a_provider_without_a_processor_runs_on_its_own_device(offered) -> None:
    offered(device("Acme", "NPU"))
    assert [d.device.type.name for d in devices_of("Acme", "cpu")] == ["NPU"]
    with pytest.raises(MissingCapabilityError, match="offers 0 GPUs here, not cuda:2"):
        devices_of("Acme", "cuda:2")


def test_a_session_runs_by_a_provider_of_a_library(
    tiny_export: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ONNX Runtime's own CPU provider has a device too, so it can be taken for a library's."""
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    with open_session(tiny_export) as session:
        expected = session.embed(images)
    monkeypatch.setattr(onnxruntime, "get_available_providers", list)
    monkeypatch.setattr(ep_libraries, "_CPU_PROVIDER", "")
    options = {"session.intra_op.allow_spinning": "0"}
    with open_session(tiny_export, provider="cpu", session_config=options) as session:
        np.testing.assert_allclose(session.embed(images), expected, atol=1e-6)
        assert session.info.device == "CPU"


def test_openvino_computes_in_float32_with_the_threads_asked_for() -> None:
    settings = provider_settings(OPENVINO, SessionOptions(threads=3))
    assert json.loads(settings["load_config"]) == {
        "CPU": {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": "3"}
    }
    given = SessionOptions(provider_options={"load_config": "{}"})
    assert provider_settings(OPENVINO, given)["load_config"] == "{}"


def test_the_installed_package_runs_or_says_why_not(tiny_export: str) -> None:
    """OpenVINO supports Intel's processors alone; in a process of its own, it stays loaded."""
    pytest.importorskip("onnxruntime_ep_openvino")
    command = [sys.executable, "-c", _IN_A_PROCESS, tiny_export]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    if "Intel" in {d.device.vendor for d in onnxruntime.get_ep_devices()}:
        images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
        with open_session(tiny_export) as session:
            np.testing.assert_allclose(found["embeddings"], session.embed(images), atol=1e-5)
        assert found["arithmetic"] == "float32 pinned"
    else:
        assert found["code"] == 4
        assert "onnxruntime-ep-openvino is loaded, but" in found["error"]
        assert found["error"].endswith("pass --runtime openvino instead")


def test_a_package_is_found_by_the_provider_that_it_names(
    offered, library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = Package("onnxruntime-ep-acme", ("AcmeExecutionProvider",), library)
    monkeypatch.setattr(ep_libraries, "installed_packages", lambda: iter([package]))
    offered()
    with pytest.raises(
        MissingCapabilityError, match=r"onnxruntime-ep-acme is loaded, but .* \(CPU of Acme\)"
    ):
        ep_libraries.find_provider("acme", ())
    monkeypatch.setattr(ep_libraries, "_LOADED", {})
    offered(library=(device("AcmeExecutionProvider"),))
    assert ep_libraries.find_provider("acme", ()) == "AcmeExecutionProvider"
    assert ep_libraries.find_provider("other", ()) is None


def test_a_library_decides_the_provider_if_it_offers_one(offered, library: Path) -> None:
    offered(library=(device("One"), device("Two")))
    with pytest.raises(UsageError, match="offers One, Two; choose one by --provider"):
        ep_libraries.only_provider((library,))


def refused(tiny_export: str, **options: object) -> str:
    with pytest.raises(MissingCapabilityError) as caught:
        open_session(tiny_export, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_libraries_that_cannot_be_used(
    tiny_export: str, offered, library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offered()
    missing = library.with_name("missing.so")
    assert "no such library" in refused(tiny_export, ep_libraries=[missing])
    assert "supports no device" in refused(tiny_export, ep_libraries=[library])
    library.with_name("empty.so").touch()
    words = refused(tiny_export, ep_libraries=[library.with_name("empty.so")])
    assert "(libcuda.so.1: cannot open it)" in words
    monkeypatch.delattr(onnxruntime, "register_execution_provider_library")
    monkeypatch.setattr(ep_libraries, "_LOADED", {})
    assert "1.22 or newer" in refused(tiny_export, ep_libraries=[library])


@pytest.mark.parametrize(
    ("provider", "elsewhere", "on_a_jetson"),
    [
        ("cuda", "pip install onnxruntime-gpu", "build an engine instead"),
        (TENSORRT_RTX, "pip install onnxruntime-ep-nv-tensorrt-rtx-cu13", "JetPack's TensorRT"),
    ],
)
def test_the_line_names_what_brings_a_provider(
    provider: str, elsewhere: str, on_a_jetson: str, tiny_export: str, monkeypatch
) -> None:
    monkeypatch.setattr(ep_libraries, "installed_packages", lambda: iter(()))
    assert refused(tiny_export, provider=provider).endswith(elsewhere)
    monkeypatch.setattr(platforms, "is_jetson", lambda: True)
    assert on_a_jetson in refused(tiny_export, provider=provider)


def test_a_graph_compiled_for_another_provider(tmp_path: Path) -> None:
    node = helper.make_node(
        "EPContext", ["x"], ["embedding"], domain="com.microsoft", source="AcmeExecutionProvider"
    )
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 4])
            for name in ("x", "embedding")]  # fmt: skip
    graph = helper.make_graph([node], "compiled", ends[:1], ends[1:])
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("com.microsoft", 1)]
    path = tmp_path / "model_ctx.onnx"
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), path)
    words = refused(str(path))
    assert "compiled for AcmeExecutionProvider" in words
    assert "--provider AcmeExecutionProvider" in words


class Compiler:
    """A double of a provider that compiles: its files name the model, which the CPU then runs."""

    def __init__(self) -> None:
        self.settings: list[onnxruntime.SessionOptions] = []
        self.is_broken = False
        self._real = onnxruntime.InferenceSession

    def __call__(self, model: str, settings: onnxruntime.SessionOptions, **chosen: object):
        self.settings.append(settings)
        (compiled,) = onnx.load(model).graph.node[:1]
        if compiled.op_type == "EPContext":
            if self.is_broken:
                raise RuntimeError("[ONNXRuntimeError] : 11 : EP_FAIL : it has another version")
            (name,) = (a.s.decode() for a in compiled.attribute if a.name == "ep_cache_context")
            return self._real(str(Path(model).with_name(name)), settings, **chosen)
        session = self._real(model, settings, **chosen)
        if settings.get_session_config_entry("ep.context_enable") == "1":
            self._write(Path(model))
        return session

    def _write(self, model: Path) -> None:
        """Write `model_ctx.onnx` as ONNX Runtime does, with the metadata of the model."""
        compiled = onnx.load(model)
        graph = compiled.graph
        ends = [[value.name for value in values] for values in (graph.input, graph.output)]
        node = helper.make_node("EPContext", *ends, domain="com.microsoft", source=CPU,
                                ep_cache_context=model.name)  # fmt: skip
        del graph.node[:], graph.initializer[:], compiled.functions[:]
        graph.node.append(node)
        onnx.save(compiled, model.with_name(f"{model.stem}_ctx.onnx"))


@pytest.fixture
def compiler(monkeypatch: pytest.MonkeyPatch) -> Compiler:
    """Let the CPU's provider be one of a library, and one that compiles."""
    double = Compiler()
    monkeypatch.setattr(onnxruntime, "get_available_providers", list)
    monkeypatch.setattr(ep_libraries, "_CPU_PROVIDER", "")
    monkeypatch.setattr(onnxruntime, "InferenceSession", double)
    return double


def test_a_compiled_model_opens_like_the_one_that_it_was_made_from(
    tiny_export: str, tmp_path: Path, compiler: Compiler
) -> None:
    model, images = tmp_path / "model.onnx", np.zeros((2, 32, 32, 3), np.uint8)
    model.write_bytes(Path(tiny_export).read_bytes())
    config = {"ep.context_enable": "1"}
    with open_session(model, provider="cpu", session_config=config) as session:
        expected = session.embed(images)
    with open_session(tmp_path / "model_ctx.onnx", provider="cpu") as session:
        np.testing.assert_array_equal(session.embed(images), expected)
        assert session.info.manifest is not None
        assert session.info.preprocessing is not None
    entries = [s.get_session_config_entry("ep.context_enable") for s in compiler.settings[:1]]
    assert entries == ["1"]
    compiler.is_broken = True
    with pytest.raises(ModelFileError, match=r"cannot load it: .*another version.*compile the"):
        open_session(tmp_path / "model_ctx.onnx", provider="cpu")


def test_an_unknown_group_of_session_config(tiny_export: str) -> None:
    with pytest.raises(UsageError, match=r"no session option 'nonsense'; they start with ep\."):
        open_session(tiny_export, session_config={"nonsense": "1"})

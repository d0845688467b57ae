"""Opening a device by either library: what is missing, whose context it works in, and that the
doubles of both have the names and parameters of the real ones.
"""

from __future__ import annotations

import ast
import functools
import gc
import inspect
import sys
from pathlib import Path

import pytest
from cuda_runtime_double import MAKES_CONTEXT, CudaRuntimeDouble
from devices import LIBRARIES, install_cuda_python
from host_device import HostDevice
from pycuda_double import PycudaDouble, install_pycuda

from gsp_deploy.device import open_device
from gsp_deploy.errors import DeviceError, GspDeployError, MissingCapabilityError

SOURCES = Path(inspect.getfile(open_device)).parent
INSTALL = {"cuda-python": install_cuda_python, "pycuda": install_pycuda}


@pytest.fixture
def card() -> HostDevice:
    return HostDevice(1)


@pytest.fixture(params=LIBRARIES)
def library(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def double(library: str, card: HostDevice, monkeypatch) -> CudaRuntimeDouble | PycudaDouble:
    return INSTALL[library](monkeypatch, card)


def used(source: str, module: str) -> set[str]:
    """Return the dotted names of a module that one of our files uses."""
    tree = ast.parse((SOURCES / source).read_text(encoding="utf-8"))
    names = (ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute))
    return {name.removeprefix(f"{module}.") for name in names if name.startswith(f"{module}.")}


def lacking(module: object, names: set[str]) -> list[str]:
    def has(name: str) -> bool:
        try:
            functools.reduce(getattr, name.split("."), module)
        except AttributeError:
            return False
        return True

    return sorted(name for name in names if not has(name))


def test_the_double_of_the_runtime_has_the_real_functions(card: HostDevice) -> None:
    real = pytest.importorskip("gsp_deploy.device.cuda_python").cudart
    names = used("cuda_python.py", "cudart")
    assert len(names) > 30
    assert lacking(real, names) == []
    assert lacking(CudaRuntimeDouble(card, real), names) == []
    for name, ours in inspect.getmembers(CudaRuntimeDouble, inspect.isfunction):
        if name.startswith("cuda"):
            parameters = list(inspect.signature(ours).parameters)[1:]
            assert parameters == list(inspect.signature(getattr(real, name)).parameters), name


def test_the_double_of_pycuda_has_all_that_is_used(card: HostDevice) -> None:
    names = used("pycuda.py", "driver")
    assert {"Context.get_current", "memcpy_htod_async", "device_attribute"} <= names
    assert lacking(PycudaDouble(card), names) == []


@pytest.mark.gpu
def test_pycuda_itself_has_all_that_is_used() -> None:
    assert lacking(pytest.importorskip("pycuda.driver"), used("pycuda.py", "driver")) == []


def test_a_machine_without_devices_is_told(double, library: str) -> None:
    double.device_count = 0
    with pytest.raises(MissingCapabilityError, match=r"no usable CUDA device here .*no CUDA-capab"):
        open_device(0, library)


@pytest.mark.parametrize(("index", "words"), [(2, "2 CUDA devices"), (7, "2 CUDA devices")])
def test_a_number_beyond_the_devices_is_told(double, library, index: int, words: str) -> None:
    with pytest.raises(MissingCapabilityError, match=f"cuda:{index} was asked for, but .*{words}$"):
        open_device(index, library)


def test_pycuda_without_the_driver_is_missing_in_one_line(tmp_path: Path, monkeypatch) -> None:
    """PyCUDA's extension is linked with libcuda, which only a driver brings."""
    package = tmp_path / "pycuda"
    package.mkdir()
    (package / "__init__.py").write_text("VERSION_TEXT = '2026.1'\n")
    (package / "driver.py").write_text(
        "raise ImportError('libcuda.so.1: cannot open shared object file')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    for module in ("pycuda", "pycuda.driver", "gsp_deploy.device.pycuda"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    with pytest.raises(MissingCapabilityError, match=r"does not load \(libcuda\.so\.1: cannot op"):
        open_device(0, "pycuda")
    del sys.modules["pycuda"]


def test_a_context_that_cannot_be_made_is_told_and_the_thread_stays_where_it_was(
    card: HostDevice, monkeypatch
) -> None:
    runtime = install_cuda_python(monkeypatch, card)
    runtime.contexts.add(0)
    card.fail_on = MAKES_CONTEXT
    with pytest.raises(DeviceError, match="cudaFree failed with cudaErrorUnknown: unknown error"):
        open_device(card.index, "cuda-python")
    assert runtime.current == 0


def test_the_threads_device_is_its_own_again_after_use(card: HostDevice, monkeypatch) -> None:
    runtime = install_cuda_python(monkeypatch, card)
    runtime.contexts.add(0)
    device = open_device(card.index, "cuda-python")
    assert runtime.current == 0
    with device.current():
        assert runtime.current == card.index
    assert runtime.current == 0


def test_no_context_is_made_on_a_device_that_nobody_uses(card: HostDevice, monkeypatch) -> None:
    runtime = install_cuda_python(monkeypatch, card)
    device = open_device(card.index, "cuda-python")
    with device.current(), device.current():
        assert runtime.current == card.index
    assert runtime.contexts == {card.index}


@pytest.mark.parametrize("reason", ["Failed to dlopen libcuda.so.1", 'Function "cuInit" not found'])
def test_cuda_python_12_6_without_a_driver_is_one_line(
    reason: str, card: HostDevice, monkeypatch
) -> None:
    """It raises where later versions return an error code, and has no words for codes either."""
    runtime = install_cuda_python(monkeypatch, card)

    def refuse(*arguments: object) -> None:
        raise RuntimeError(reason)

    for name in ("cudaGetDeviceCount", "cudaGetErrorString", "cudaGetDevice"):
        monkeypatch.setattr(runtime, name, refuse, raising=False)
    with pytest.raises(MissingCapabilityError, match="no usable CUDA device here") as caught:
        open_device(0, "cuda-python")
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("bindings", "said"),
    [
        ({"driver": "raise RuntimeError('no libcuda')"}, r"does not load \(no libcuda\)"),
        ({"driver": "raise OSError('bad ELF')"}, r"does not load \(bad ELF\)"),
        ({"driver": "1 / 0"}, r"does not load \(division by zero\)"),
        ({}, "does not have what is needed .*cudaGetDeviceCount.*; install a newer one"),
    ],
)
def test_a_cuda_python_that_is_damaged_or_odd_is_one_line(
    bindings: dict[str, str], said: str, tmp_path: Path, monkeypatch
) -> None:
    for name, text in {"__init__": "", "driver": "", "runtime": "", **bindings}.items():
        place = tmp_path / "cuda" / "bindings" / f"{name}.py"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
    (tmp_path / "cuda" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    loaded = [name for name in sys.modules if name.split(".")[0] == "cuda"]
    for module in (*loaded, "gsp_deploy.device.cuda_python"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    with pytest.raises(MissingCapabilityError, match=said) as caught:
        open_device(0, "cuda-python")
    assert "\n" not in str(caught.value)
    for module in [name for name in sys.modules if name.split(".")[0] == "cuda"]:
        del sys.modules[module]
    sys.modules.pop("gsp_deploy.device.cuda_python", None)


def test_an_error_that_cuda_python_does_not_know_is_one_line(card: HostDevice, monkeypatch) -> None:
    runtime = install_cuda_python(monkeypatch, card)

    def answer() -> None:
        raise ValueError("999 is not a valid cudaError_t")

    answer.__name__ = "cudaGetDeviceCount"
    monkeypatch.setattr(runtime, "cudaGetDeviceCount", answer, raising=False)
    with pytest.raises(DeviceError, match="cudaGetDeviceCount failed: 999 is not a valid"):
        open_device(0, "cuda-python")


def test_every_call_of_cuda_python_is_guarded() -> None:
    tree = ast.parse((SOURCES / "cuda_python.py").read_text(encoding="utf-8"))
    called = [
        ast.unparse(node.func)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func).startswith(("cudart.", "driver."))
    ]
    assert sorted(called) == ["cudart.cudaStream_t", "cudart.cudaStream_t", "driver.CUdevice"]


def test_pycuda_joins_the_context_of_the_caller(card: HostDevice, monkeypatch) -> None:
    driver = install_pycuda(monkeypatch, card)
    mine = driver.Device(card.index).make_context()
    device = open_device(card.index)  # who has loaded PyCUDA works with it
    assert device.api == "pycuda 2026.1"
    with device.current():
        device.free(device.allocate(8))
    device.close()
    assert driver.Context.stack == [mine]
    assert driver.retained == 0


def test_a_context_of_another_device_is_refused(card: HostDevice, monkeypatch) -> None:
    driver = install_pycuda(monkeypatch, card)
    driver.Device(0).make_context()
    with pytest.raises(GspDeployError, match=f"context is not of cuda:{card.index}; pop it"):
        open_device(card.index, "pycuda")


def test_the_primary_context_stays_as_long_as_something_needs_it(
    card: HostDevice, monkeypatch
) -> None:
    driver = install_pycuda(monkeypatch, card)
    device = open_device(card.index, "pycuda")
    with device.current():
        there = device.allocate(8)
    device.close()
    assert driver.retained == 1
    with device.current():
        device.free(there)
    del device
    gc.collect()
    assert driver.retained == 0
    assert driver.Context.stack == []
    assert driver.warnings == []

"""The two libraries behind the device protocol, as far as they can be held without a GPU."""

from __future__ import annotations

import ast
import inspect
import sys
from types import ModuleType

import pytest

from gsp_deploy import device
from gsp_deploy.device import Device, choose_api, open_device
from gsp_deploy.errors import DeviceError, MissingCapabilityError, UsageError

cuda_python = pytest.importorskip("gsp_deploy.device.cuda_python")


def test_every_name_of_cuda_python_that_is_used_is_there() -> None:
    tree = ast.parse(inspect.getsource(cuda_python))
    used = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "cudart"
    }
    assert len(used) > 25
    assert [name for name in sorted(used) if not hasattr(cuda_python.cudart, name)] == []
    kinds = ("cudaMemcpyHostToDevice", "cudaMemcpyDeviceToHost", "cudaMemcpyDeviceToDevice")
    assert all(cuda_python._kind(kind) is not None for kind in kinds)


def test_it_has_all_of_the_protocol() -> None:
    assert issubclass(cuda_python.CudaPythonDevice, Device)
    assert cuda_python.CudaPythonDevice.__abstractmethods__ == frozenset()


def test_errors_have_cudas_name() -> None:
    runtime = cuda_python.cudart
    refused = runtime.cudaError_t.cudaErrorMemoryAllocation
    with pytest.raises(DeviceError, match=r"for 5 bytes failed with cudaErrorMemoryAllocation: ou"):
        cuda_python._check(refused, "cudaMalloc", "5 bytes")
    cuda_python._check(runtime.cudaError_t.cudaSuccess, "cudaMalloc", "")


def test_a_device_that_is_not_there_is_told_in_one_line() -> None:
    """The hundredth: no driver at all, or fewer devices."""
    with pytest.raises(MissingCapabilityError, match=r"cudaError|cuda:99 was asked") as caught:
        open_device(99)
    assert caught.value.exit_code == 4
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("there", "loaded", "asked", "chosen"),
    [
        ({"cuda.bindings"}, False, "auto", "cuda-python"),
        ({"cuda.cudart"}, False, "auto", "cuda-python"),
        ({"cuda.bindings", "pycuda"}, False, "auto", "cuda-python"),
        ({"cuda.bindings", "pycuda"}, True, "auto", "pycuda"),
        ({"pycuda"}, False, "auto", "pycuda"),
        ({"cuda.bindings", "pycuda"}, False, "pycuda", "pycuda"),
        ({"cuda.bindings", "pycuda"}, True, "cuda-python", "cuda-python"),
    ],
)
def test_which_library_is_taken(there, loaded, asked, chosen, monkeypatch) -> None:
    monkeypatch.setattr(device, "can_import", lambda module: module in there)
    if loaded:
        monkeypatch.setitem(sys.modules, "pycuda.driver", ModuleType("pycuda.driver"))
    else:
        monkeypatch.delitem(sys.modules, "pycuda.driver", raising=False)
    assert choose_api(asked) == chosen


@pytest.mark.parametrize(("asked", "extra"), [("auto", "gpu"), ("pycuda", "pycuda")])
def test_a_library_that_is_missing_is_named(asked, extra, monkeypatch) -> None:
    monkeypatch.setattr(device, "can_import", lambda module: False)
    with pytest.raises(MissingCapabilityError, match=rf"pip install 'gsp-deploy\[{extra}\]'"):
        choose_api(asked)


def test_an_unknown_library_is_refused() -> None:
    with pytest.raises(UsageError, match="auto, cuda-python, pycuda, got 'cupy'"):
        choose_api("cupy")

"""Devices by each library, all on the same double of a card."""

from __future__ import annotations

import pytest
from cuda_runtime_double import CudaDriverDouble, CudaRuntimeDouble
from host_device import HostDevice
from pycuda_double import install_pycuda

from gsp_deploy.device import Device, open_device

HOST = "the double itself"
LIBRARIES = ("cuda-python", "pycuda")


def device_on(card: HostDevice, library: str, monkeypatch: pytest.MonkeyPatch) -> Device:
    """Return the card as a device: itself, or through a double of one of the libraries."""
    if library == HOST:
        return card
    if library == "pycuda":
        install_pycuda(monkeypatch, card)
    else:
        install_cuda_python(monkeypatch, card)
    return open_device(card.index, library)


def install_cuda_python(monkeypatch: pytest.MonkeyPatch, card: HostDevice) -> CudaRuntimeDouble:
    """Put a card behind cuda-python's functions."""
    cuda_python = pytest.importorskip("gsp_deploy.device.cuda_python")
    runtime = CudaRuntimeDouble(card, cuda_python.cudart)
    driver = CudaDriverDouble(runtime, cuda_python.driver)
    monkeypatch.setattr(cuda_python, "cudart", runtime)
    monkeypatch.setattr(cuda_python, "driver", driver)
    return runtime

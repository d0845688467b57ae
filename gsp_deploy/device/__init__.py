"""Open CUDA devices with cuda-python or PyCUDA, behind one small protocol."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import get_args

from gsp_deploy.base.choices import CudaApi
from gsp_deploy.base.environment import can_import
from gsp_deploy.base.platforms import install_line
from gsp_deploy.device.protocol import Device, DeviceProperties, MemoryInfo
from gsp_deploy.errors import MissingCapabilityError, UsageError, reason_of

__all__ = ["CUDA_APIS", "Device", "DeviceProperties", "MemoryInfo", "choose_api", "open_device"]

CUDA_APIS: tuple[str, ...] = get_args(CudaApi)


def open_device(index: int = 0, api: str = "auto") -> Device:
    """Open a CUDA device.

    Args:
        index: the device's number.
        api: `cuda-python`, `pycuda`, or `auto`.

    Raises:
        UsageError: `api` is none of these.
        MissingCapabilityError: the library, a driver or the device is missing.
    """
    chosen = choose_api(api)
    try:
        open_by = _class_of(chosen)
    except Exception as error:  # without a driver, or with a damaged library, of many types
        raise MissingCapabilityError(
            f"{chosen} is installed but does not load ({reason_of(error)}); `gsp-deploy doctor` "
            "shows what is missing"
        ) from error
    try:
        return open_by(index)
    except AttributeError as error:
        raise MissingCapabilityError(
            f"this {chosen} does not have what is needed ({reason_of(error)}); install a newer one"
        ) from error


def _class_of(api: str) -> Callable[[int], Device]:
    if api == "pycuda":
        from gsp_deploy.device.pycuda import PycudaDevice

        return PycudaDevice
    from gsp_deploy.device.cuda_python import CudaPythonDevice

    return CudaPythonDevice


def choose_api(api: str = "auto") -> str:
    """Return the library to use.

    `auto` is PyCUDA if the program uses it already or has no other, else cuda-python.

    Raises:
        UsageError: `api` is not one of `CUDA_APIS`.
        MissingCapabilityError: it is not installed.
    """
    if api not in CUDA_APIS:
        raise UsageError(f"the CUDA API must be one of {', '.join(CUDA_APIS)}, got {api!r}")
    has_cuda_python = can_import("cuda.bindings") or can_import("cuda.cudart")
    has_pycuda = can_import("pycuda")
    if api == "auto":
        in_use = has_pycuda and "pycuda.driver" in sys.modules
        if in_use or not has_cuda_python:
            api = "pycuda" if has_pycuda else "cuda-python"
        else:
            api = "cuda-python"
    if not (has_pycuda if api == "pycuda" else has_cuda_python):
        extra = "pycuda" if api == "pycuda" else "gpu"
        raise MissingCapabilityError(
            f"engines need the package {api!r}, which is not installed: {install_line(extra)}"
        )
    return api

"""Create TensorRT's runtime, builder or refitter, or raise one line if it cannot start.

If CUDA cannot start, TensorRT logs an error and returns an object all the same. A call on that
object, and even its release, ends the process. So an error that is logged during the creation is
a failure, and the object is never released.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

from gsp_deploy.engine.api import TensorRT, cuda_of, version_numbers
from gsp_deploy.engine.log import reason_for
from gsp_deploy.errors import MissingCapabilityError


def start(tensorrt: TensorRT, create: Callable[..., Any], log: Any, *arguments: Any) -> Any:
    """Return `create(*arguments, log)` of TensorRT, such as a `Runtime`.

    Raises:
        MissingCapabilityError: TensorRT logged an error, or returned nothing.
    """
    before = len(log.errors)
    made = create(*arguments, log)
    if made is not None and len(log.errors) == before:
        return made
    for kept in (made, log):
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(kept))
    raise MissingCapabilityError(
        f"{tensorrt.name} does not start: {reason_for(log.errors[: before + 1])}; "
        "`gsp-deploy doctor` shows what is missing"
    )


def check_driver(tensorrt: TensorRT, driver: str) -> None:
    """Raise if the driver is too old for the CUDA that TensorRT was built for.

    A driver runs every release of its own major version of CUDA, and of older ones.

    Args:
        tensorrt: the module.
        driver: the newest CUDA that the driver supports, such as `12.6`.

    Raises:
        MissingCapabilityError: TensorRT needs a newer driver.
    """
    needed = cuda_of(tensorrt)
    if needed is not None and version_numbers(needed)[0] > version_numbers(driver)[0]:
        raise MissingCapabilityError(
            f"{tensorrt.name} is for CUDA {needed}, and the driver here supports CUDA {driver}: "
            f"install a newer driver, or the TensorRT for CUDA {version_numbers(driver)[0]}"
        )

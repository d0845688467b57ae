"""Run ONNX Runtime on arrays of other libraries without a copy, through DLPack."""

from __future__ import annotations

from typing import Any

import onnxruntime

from gsp_deploy.artifact import TensorSpec
from gsp_deploy.base.elements import END_ELEMENTS
from gsp_deploy.errors import MissingCapabilityError, UsageError, reason_of
from gsp_deploy.runtime.providers import ON_GPU
from gsp_deploy.runtime.session import check_shape

_CPU, _CUDA = 1, 2  # DLPack's numbers of kinds of devices
_NAMES = {_CPU: "cpu", _CUDA: "cuda"}
# ONNX Runtime's names of the element types that a model may take and return.
ELEMENT_TYPES = {row.onnxruntime: row.name for row in END_ELEMENTS}


def check_device(array: Any, provider: str) -> None:
    """Raise `UsageError` unless an array is on the device that the provider uses."""
    if not hasattr(array, "__dlpack_device__"):
        raise UsageError(f"expected an array that speaks DLPack, got {type(array).__name__}")
    kind = int(array.__dlpack_device__()[0])
    if kind not in _NAMES or (kind == _CUDA) != (provider in ON_GPU):
        place = _NAMES.get(kind, f"a device of DLPack's kind {kind}")
        raise UsageError(f"the array is on {place}, the session runs by {provider}")


def value_of(array: Any, wanted: TensorSpec) -> Any:
    """Return an array as an `OrtValue` on the same memory, after checking that it fits.

    Raises:
        UsageError: it is not dense, or of another type or shape.
        MissingCapabilityError: this ONNX Runtime has no DLPack.
    """
    if not hasattr(onnxruntime.OrtValue, "from_dlpack"):
        raise MissingCapabilityError(
            f"onnxruntime {onnxruntime.__version__} has no DLPack; install a newer one, or use "
            "embed with numpy arrays"
        )
    try:
        value = onnxruntime.OrtValue.from_dlpack(array)
    except Exception as error:  # torch, CuPy and ONNX Runtime each raise types of their own
        raise UsageError(
            f"expected a dense array that speaks DLPack: {reason_of(error)}"
        ) from error
    dtype = ELEMENT_TYPES.get(value.data_type(), value.data_type())
    if dtype != wanted.dtype:
        raise UsageError(f"expected {wanted.name} of {wanted.dtype}, got {dtype}")
    shape = tuple(value.shape())
    check_shape(shape, wanted)
    if isinstance(wanted.shape[0], int) and shape[0] != wanted.shape[0]:
        raise UsageError(f"the model takes {wanted.shape[0]} images at once, got {shape[0]}")
    return value


def run_bound(session: Any, name: str, value: Any, array: Any, output: str) -> Any:
    """Run a session on a value and leave the output on the value's device."""
    kind, index = (int(part) for part in array.__dlpack_device__())
    binding = session.io_binding()
    binding.bind_ortvalue_input(name, value)
    binding.bind_output(output, _NAMES[kind], index)
    binding.synchronize_inputs()
    session.run_with_iobinding(binding)
    binding.synchronize_outputs()
    return binding.get_outputs()[0]

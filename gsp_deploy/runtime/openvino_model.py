"""Read an ONNX file with OpenVINO, and compile it for the CPU in the precision that is asked for.

Left alone, OpenVINO computes a float32 file in bfloat16 if the processor has it. So the precision
is always set here, and a session's description names it.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import openvino
from openvino.frontend import FrontEndManager, OpConversionFailure

from gsp_deploy.artifact.external_data import without_links
from gsp_deploy.artifact.pooling_node import HEAD_PREFIX
from gsp_deploy.base.cores import available_cores
from gsp_deploy.errors import GspDeployError, MissingCapabilityError, ModelFileError, flattened
from gsp_deploy.runtime.session import FOR_THROUGHPUT, SessionOptions

DEVICE = "CPU"
# OpenVINO's name of each precision that it computes floats in; as a capability it is in capitals.
HINTS = {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}
_CAPABILITIES = {"fp32": "FP32", "bf16": "BF16", "fp16": "FP16"}
# What the bodies of messages begin with in OpenVINO: places in its own source.
_NOISE = ("Exception from", "Check '", "Exception happened", "FrontEnd API failed")
# Operators that OpenVINO lowers to bfloat16; after the last of them all stays float32.
_LOWERED = ("Convolution", "MatMul")


def read_model(path: Path) -> openvino.Model:
    """Return the graph of an ONNX file; local functions, such as the plugin's body, are inlined.

    Raises:
        ModelFileError: it is missing, damaged, or has an operator that OpenVINO does not know.
    """
    # Only the ONNX reader: asked for any reader, OpenVINO would try those of other formats too.
    reader = FrontEndManager().load_by_framework("onnx")
    with blaming(path, "load"), without_links(path) as plain:
        try:
            model = reader.convert(reader.load(str(plain)))
        except OpConversionFailure:  # also for the call of a function
            inlined = _inlined(plain)
            if inlined is None:
                raise
            model = reader.convert(reader.load(io.BytesIO(inlined)))
    if len(model.inputs) != 1 or not model.outputs:
        found = ", ".join(f"{name_of(end)} {end.get_element_type()}" for end in model.inputs)
        raise ModelFileError(f"{path}: expected one input of images, found {found or 'none'}")
    return model


def _inlined(path: Path) -> bytes | None:
    """Return the model with its functions written out, or None if it has none."""
    import onnx  # here: models without functions run where onnx is not installed
    from onnx.inliner import inline_local_functions

    from gsp_deploy.artifact.pooling_node import expand_pooling

    try:
        if not onnx.load(path, load_external_data=False).functions:
            return None
        model = expand_pooling(onnx.load(path))
        inlined: bytes = inline_local_functions(model).SerializeToString()
    except Exception as error:  # protobuf raises several types of its own
        raise ModelFileError(f"{path}: its functions cannot be inlined: {flattened(error)}") from (
            error
        )
    return inlined


def pinned_precision(path: Path, asked: str | None, of_file: str) -> str:
    """Return the precision to compute floats in: `fp32`, `bf16` or `fp16`.

    Args:
        path: the model, for the error.
        asked: the precision that the user wants; None takes the file's own if it is there.
        of_file: the precision of the export, or `unknown`.

    Raises:
        MissingCapabilityError: the processor does not compute in the precision that is asked for.
    """
    able = processor_precisions()
    if asked is None:
        return of_file if of_file in able else "fp32"
    if asked not in able:
        needed = {"bf16": "AMX or AVX512-BF16", "fp16": "AVX512-FP16 or AMX-FP16"}[asked]
        raise MissingCapabilityError(
            f"{path}: precision {asked} needs a processor with {needed}, and this one computes in "
            f"{', '.join(able)}; leave the precision out"
        )
    return asked


def processor_precisions() -> tuple[str, ...]:
    """Return the float precisions that this processor computes in, by OpenVINO."""
    found = _core(os.getpid()).get_property(DEVICE, "OPTIMIZATION_CAPABILITIES")
    return tuple(word for word, capability in _CAPABILITIES.items() if capability in found)


def compile_model(
    path: Path, model: openvino.Model, precision: str, options: SessionOptions
) -> openvino.CompiledModel:
    """Compile a graph for the CPU in this precision, with these threads and requests.

    Raises:
        ModelFileError: OpenVINO cannot compile it.
    """
    settings: dict[str, Any] = {
        "INFERENCE_PRECISION_HINT": HINTS[precision],
        "INFERENCE_NUM_THREADS": options.threads or available_cores(),
        # Pinned threads of two sessions, or of two processes, would share the same cores.
        "ENABLE_CPU_PINNING": False,
    }
    if options.requests == FOR_THROUGHPUT:
        settings["PERFORMANCE_HINT"] = "THROUGHPUT"
    else:
        settings["PERFORMANCE_HINT"] = "LATENCY"
        settings["NUM_STREAMS"] = options.requests
    if options.model_cache is not None:
        settings["CACHE_DIR"] = str(options.model_cache)
    if precision != "fp32":
        _keep_solver_in_float32(model)
    with blaming(path, "compile"):
        return _core(os.getpid()).compile_model(model, DEVICE, settings)


@cache
def _core(process: int) -> openvino.Core:
    """Return the core of this process, which is never released.

    OpenVINO's CPU plugin gives the thread that loads it another stack for signals. It frees that
    stack when its core is released, even if the thread goes on using it, as it does where cores are
    not released in reverse order. The next signal, Ctrl-C for instance, would then end the process.
    """
    return openvino.Core()


def _keep_solver_in_float32(model: openvino.Model) -> None:
    """Make the pooling's values outputs where a later product would pull them into bfloat16.

    OpenVINO leaves everything between its last products and an output in float32. The cost and
    the solver come after such a product, but with some poolings also before another.
    """
    for node in model.get_ordered_ops():
        if node.get_type_name() in _LOWERED and node.get_friendly_name().startswith(HEAD_PREFIX):
            source = node.input_value(0)
            if source.get_node().get_friendly_name().startswith(HEAD_PREFIX):
                model.add_outputs([source])


def name_of(end: Any) -> str:
    """Return a name of an input or output; one without a name is called `?`."""
    return min(end.get_names(), default="?")


@contextmanager
def blaming(path: Path, action: str) -> Iterator[None]:
    """Raise any error of OpenVINO, which has several types, as `ModelFileError`."""
    try:
        yield
    except GspDeployError:
        raise
    except ModuleNotFoundError:  # onnx, to inline functions
        raise
    except Exception as error:
        raise ModelFileError(f"{path}: OpenVINO cannot {action} it: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    kept = [line for line in lines if not line.startswith(_NOISE)]
    return flattened(RuntimeError("\n".join(kept or lines))) or type(error).__name__

"""Experimental: the pooling's Triton kernel, which TensorRT embeds into the plan as PTX.

It needs TensorRT 10.9 or newer and Triton on the machine that builds, and neither a compiler there
nor any plugin where the plan runs. Nothing here has met a GPU.
"""

# No postponed annotations in here: tensorrt.plugin reads the signatures as they stand.
import inspect
import tempfile
import types
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import tensorrt as trt
import tensorrt.plugin as trtp

from gsp_deploy.engine.aot.compiling import CompiledPooling, PoolingSizes, compile_pooling
from gsp_deploy.engine.aot.node import NAMESPACE, Variant, retarget
from gsp_deploy.engine.api import TensorRT
from gsp_deploy.engine.network import ParsedNetwork, parse_onnx
from gsp_deploy.errors import MissingCapabilityError
from gsp_deploy.pooling_node import PoolingAttributes

# In the order and with the types in which the plugin has them as attributes.
SETTINGS: dict[str, type] = {
    name: type(value) for name, value in vars(PoolingAttributes("", "", 1, 0.5, 1.0)).items()
}
_WORDS = {trt.float32: "fp32", trt.float16: "fp16", trt.bfloat16: "bf16"}
_registered: dict[Variant, int] = {}


def parse_with_triton(tensorrt: TensorRT, source: Path, capability: str | None) -> ParsedNetwork:
    """Parse a model whose pooling is one node, that node taken to the Triton kernel.

    Args:
        tensorrt: the module that parses.
        source: an ONNX file with the pooling node.
        capability: compute capability of the GPU that the plan is for, such as `8.7`.

    Raises:
        MissingCapabilityError: there is no GPU to compile for.
        UsageError: the model has no pooling node.
        ModelFileError: TensorRT cannot parse it.
    """
    if capability is None:
        raise MissingCapabilityError("the Triton kernel is compiled for a GPU, and CUDA finds none")
    with tempfile.TemporaryDirectory(prefix="gsp-triton-") as folder:
        target = Path(folder) / source.name
        variant = retarget(source, target)
        register(variant, int(capability.replace(".", "")))
        return replace(parse_onnx(tensorrt, target), source=source)


def register(variant: Variant, capability: int, lazy: bool = False) -> None:
    """Register a variant of the plugin with TensorRT, once for this process.

    Args:
        variant: its tensors.
        capability: compute capability to compile for, 87 for 8.7.
        lazy: wait with TensorRT's own registry until the plugin is used from Python.
    """
    was_there, _registered[variant] = variant in _registered, capability
    if was_there:
        return
    name = f"{NAMESPACE}::{variant.name}"
    trtp.register(name, lazy_register=lazy)(_description(variant))
    trtp.autotune(name)(_formats(variant))
    trtp.aot_impl(name)(_kernel(variant))


def _description(variant: Variant) -> Callable[..., Any]:
    """Return the function that tells shapes and types of the outputs."""

    def describe(*tensors: Any, **_settings: Any) -> Any:
        embeddings, prototypes = tensors[:2]
        batch, depth, height, width = (embeddings.shape_expr[axis] for axis in range(4))
        channels = tensors[2].shape_expr[1] if variant.reads_features else depth
        shapes = [(batch, channels), (batch, height, width), (batch, prototypes.shape_expr[0])]
        return tuple(
            trtp.from_shape_expr(shape, dtype=trt.float32)
            for shape in shapes[: len(variant.outputs)]
        )

    returns = types.GenericAlias(tuple, (trtp.TensorDesc,) * len(variant.outputs))
    return _signed(describe, {**_tensors(variant), **SETTINGS}, returns)


def _formats(variant: Variant) -> Callable[..., Any]:
    """Return the function that tells types and formats: channels first alone."""

    def formats(*_arguments: Any) -> list[Any]:
        maps = "FP32|FP16|BF16"
        inputs = [maps, "FP32", *([maps] if variant.reads_features else [])]
        types = ", ".join([*inputs, *["FP32"] * len(variant.outputs)])
        return [trtp.AutoTuneCombination(types, "LINEAR")]

    outputs = {"outputs": tuple[trtp.TensorDesc]}
    return _signed(formats, {**_tensors(variant), **outputs}, list[trtp.AutoTuneCombination])


def _kernel(variant: Variant) -> Callable[..., Any]:
    """Return the function that compiles the kernel for the shapes that TensorRT has."""

    def kernel(*arguments: Any) -> tuple[bytes, bytes, Any, Any]:
        count = len(variant.inputs)
        tensors, values = arguments[:count], arguments[count : count + len(SETTINGS)]
        settings = PoolingAttributes(
            **{name: _plain(value) for name, value in zip(SETTINGS, values, strict=True)}
        )
        compiled = compile_pooling(settings, _sizes(tensors), _registered[variant])
        return _launch(compiled, tensors[0].shape_expr)

    ends = {"outputs": tuple[trtp.TensorDesc], "tactic": int}
    text = str | bytes
    returns = tuple[text, text, trtp.KernelLaunchParams, trtp.SymExprs]
    return _signed(kernel, {**_tensors(variant), **SETTINGS, **ends}, returns)


def _launch(compiled: CompiledPooling, maps: Any) -> tuple[bytes, bytes, Any, Any]:
    """Return TensorRT's four: name, PTX, launch (a block an image), and the scalar: locations."""
    launch = trtp.KernelLaunchParams()
    launch.grid_x = maps[0]
    launch.block_x = compiled.threads
    launch.shared_mem = compiled.shared_bytes
    scalars = trtp.SymIntExprs.from_tuple([trtp.SymInt32(maps[2] * maps[3])])
    return compiled.name.encode(), compiled.ptx.encode(), launch, scalars


def _sizes(tensors: tuple[Any, ...]) -> PoolingSizes:
    embeddings, prototypes = tensors[:2]
    largest = embeddings.shape.max if embeddings.shape.is_dynamic else tuple(embeddings.shape)
    return PoolingSizes(
        embedding_dim=int(embeddings.shape[1]),
        prototypes=int(prototypes.shape[0]),
        channels=int(tensors[-1].shape[1]) if len(tensors) == 3 else int(embeddings.shape[1]),
        most_locations=int(largest[2] * largest[3]),
        input_type=_WORDS[embeddings.dtype],
    )


def _plain(value: Any) -> Any:
    """Return a setting as it stands in ONNX: parsers count the terminator of strings or not."""
    return value.rstrip("\0") if isinstance(value, str) else value


def _tensors(variant: Variant) -> dict[str, Any]:
    return dict.fromkeys(variant.inputs, trtp.TensorDesc)


def _signed(function: Callable[..., Any], arguments: dict[str, Any], returns: Any) -> Any:
    """Give a function the signature that TensorRT is to read off it."""
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    function.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [inspect.Parameter(name, kind, annotation=type_) for name, type_ in arguments.items()],
        return_annotation=returns,
    )
    return function

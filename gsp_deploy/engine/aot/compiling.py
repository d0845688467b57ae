"""Compiling the pooling's Triton kernel ahead of time: settings and sizes in, PTX out.

The kernel is slower than that of `plugins/gsp_pooling`, and nothing needs compiling by hand:
`aot.plugin` lets TensorRT embed it.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import triton
from triton.backends.compiler import GPUTarget

from gsp_deploy.constants import GEM_FLOOR, NORM_FLOOR, SMALLEST_SLOPE
from gsp_deploy.engine.aot.kernel import pool_images
from gsp_deploy.errors import UsageError
from gsp_deploy.pooling_node import PoolingAttributes

BLOCK_M, BLOCK_N, BLOCK_C = 32, 32, 16
WARPS = 4
# The PTX that the drivers of CUDA 12.8, the first for TensorRT 10.9, can read; Thor came later.
PTX_VERSION, NEWER_PTX = 87, {110: 90}
_PARAMETER = re.compile(r",\s*\.param \.u64 [^,\n]*?(\w+_param_\d+)(?=\s*\))")
MOST_LOCATIONS = 4096
TYPES = ("fp32", "fp16", "bf16")


@dataclass(frozen=True)
class PoolingSizes:
    """What the kernel is compiled for, beside its settings.

    Attributes:
        embedding_dim, prototypes: D and M.
        channels: C of the features; D where the embeddings themselves are pooled.
        most_locations: N at most; fewer may come.
        input_type: of embeddings and features: `fp32`, `fp16` or `bf16`.
    """

    embedding_dim: int
    prototypes: int
    channels: int
    most_locations: int
    input_type: str = "fp32"

    def __post_init__(self) -> None:
        if not 0 < self.most_locations <= MOST_LOCATIONS:
            raise UsageError(
                f"the pooling takes 1 to {MOST_LOCATIONS} locations, got {self.most_locations}"
            )
        if self.input_type not in TYPES:
            raise UsageError(f"the pooling takes {', '.join(TYPES)}, got {self.input_type}")


@dataclass(frozen=True)
class CompiledPooling:
    """The kernel for one kind of GPU: its name, PTX, threads a block and shared memory in bytes."""

    name: str
    ptx: str
    threads: int
    shared_bytes: int


def kernel_constants(settings: PoolingAttributes, sizes: PoolingSizes) -> dict[str, object]:
    """Return the compile-time arguments of `pool_images`.

    Raises:
        UsageError: outputs in half precision, in whose place the log-masses could not stand.
    """
    if settings.output_type != "fp32":
        raise UsageError(
            f"the Triton kernel writes float32, the node asks for {settings.output_type}: export "
            "with --io-precision fp32"
        )
    ratio = settings.transport_ratio
    return {
        "POOLING": settings.pooling,
        "SOLVER": settings.solver,
        "STEPS": settings.iterations,
        "RATIO": ratio,
        "LOG_RATIO": math.log(ratio),
        "LOGIT": math.log(ratio) - math.log1p(-ratio),
        "LOG_START": math.log(settings.initial_scale or ratio),
        "GAMMA": settings.entropy_weight,
        "POWER": settings.power,
        "NORMALIZE": bool(settings.normalize),
        "DIM": sizes.embedding_dim,
        "PROTOTYPES": sizes.prototypes,
        "CHANNELS": sizes.channels,
        "SLOPE": SMALLEST_SLOPE,
        "FLOOR": GEM_FLOOR,
        "LEAST_NORM": NORM_FLOOR,
        "BLOCK_M": BLOCK_M,
        "BLOCK_N": BLOCK_N,
        "BLOCK_C": BLOCK_C,
        "BLOCK_ALL": triton.next_power_of_2(sizes.most_locations),
    }


def compile_pooling(
    settings: PoolingAttributes, sizes: PoolingSizes, capability: int
) -> CompiledPooling:
    """Compile the kernel ahead of time, without a GPU.

    Args:
        settings: the node's.
        sizes: shapes and types.
        capability: compute capability of the GPU, 87 for 8.7.

    Raises:
        UsageError: the node asks for what this kernel does not do.
    """
    constants = kernel_constants(settings, sizes)
    is_feature = settings.pooling != "gap"
    pointer = f"*{sizes.input_type}"
    signature = {
        "embeddings": pointer,
        "prototypes": "*fp32",
        "features": pointer if is_feature else "constexpr",
        "locations": "i32",
        "pooled": "*fp32",
        "weights": "*fp32",
        "attributes": "*fp32" if settings.output_attributes else "constexpr",
        **dict.fromkeys(constants, "constexpr"),
    }
    absent = {name: None for name in ("features", "attributes") if signature[name] == "constexpr"}
    source = triton.compiler.ASTSource(
        fn=pool_images, signature=signature, constexprs={**constants, **absent}
    )
    compiled = triton.compile(
        source,
        target=GPUTarget("cuda", capability, 32),
        options={
            "num_warps": WARPS,
            "num_stages": 1,
            "ptx_version": NEWER_PTX.get(capability, PTX_VERSION),
        },
    )
    metadata = compiled.metadata
    ptx = _without_scratch(compiled.asm["ptx"])
    return CompiledPooling(metadata.name, ptx, metadata.num_warps * 32, metadata.shared)


def _without_scratch(ptx: str) -> str:
    """Take off the trailing parameters that nothing reads: Triton's own launcher fills them.

    They are for scratch memory, of which this kernel uses none; TensorRT would pass nothing there.
    """
    while (last := _PARAMETER.search(ptx)) and f"[{last[1]}]" not in ptx:
        ptx = ptx[: last.start()] + ptx[last.end() :]
    return ptx

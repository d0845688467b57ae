"""GSP as one operator of PyTorch, `gsp_deploy::generalized_sum_pooling`.

`torch.compile` and `torch.export` see one node and do not look inside, so `gsp_deploy.export` can
replace that node by its certified form. The operator has an analytic gradient, a rule for `vmap`,
and computes in float32 at least under autocast.

Besides the head's outputs it returns four tensors that only its gradient needs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from gsp_deploy.artifact.tensors import CERTIFICATES, OUTPUTS
from gsp_deploy.layers.precision import widest_dtype
from gsp_deploy.layers.stages import PoolingSettings, gradients_of, pool

OPERATOR = "gsp_deploy::generalized_sum_pooling"
# Outputs of the layer; the operator's others are for its gradient.
PUBLIC_OUTPUTS = len(OUTPUTS)

_INPUTS = "Tensor features, Tensor weight, Tensor? bias, Tensor prototypes, Tensor? power"
_SAVED = "Tensor embeddings, Tensor costs, Tensor squares, Tensor kept"
_PULLED = "Tensor? to_embedding, Tensor? to_attributes, Tensor? to_weights"
_SETTINGS = (
    "float transport_ratio, float entropy_weight, str solver, int steps, int points, "
    "float initial_scale, str pooling, bool max_residual, bool normalize"
)
_OUTPUTS = ", ".join(["Tensor"] * (PUBLIC_OUTPUTS + 4))


def _pool(*args: Any) -> tuple[Tensor, ...]:
    with torch.autocast(args[0].device.type, enabled=False):
        return pool(args[:5], PoolingSettings(*args[5:]))  # type: ignore[arg-type]


def _gradients(*args: Any) -> list[Tensor]:
    """Return one gradient per input; an empty tensor stands for one that is not needed."""
    pulled, inputs, saved, needed, settings = args[:3], args[3:8], args[8:12], args[12], args[13:]
    with torch.autocast(inputs[0].device.type, enabled=False):
        found = gradients_of(pulled, inputs, saved, needed, PoolingSettings(*settings))
    return [inputs[0].new_empty(0) if gradient is None else gradient for gradient in found]


generalized_sum_pooling = torch.library.custom_op(
    OPERATOR, _pool, mutates_args=(), schema=f"({_INPUTS}, {_SETTINGS}) -> ({_OUTPUTS})"
)
gradients = torch.library.custom_op(
    f"{OPERATOR}_gradients",
    _gradients,
    mutates_args=(),
    schema=f"({_PULLED}, {_INPUTS}, {_SAVED}, bool[] needed, {_SETTINGS}) -> Tensor[]",
)


def torch_operator() -> Any:
    """Return the overload that an exported program calls."""
    return torch.ops.gsp_deploy.generalized_sum_pooling.default


@generalized_sum_pooling.register_fake
def _shapes(
    features: Tensor, weight: Tensor, bias: Tensor | None, prototypes: Tensor, *_: Any
) -> tuple[Tensor, ...]:
    batch, _channels, height, width = features.shape
    dim, count, locations = weight.shape[0], prototypes.shape[0], height * width
    sizes = {"batch": batch, "height": height, "width": width}
    sizes |= {"embedding_dim": dim, "prototypes": count}
    found = [[sizes[str(name)] for name in shape] for shape in OUTPUTS.values()]
    saved = [[batch, dim, locations], [batch, count, locations], [batch, 1, locations]]
    dtype = torch.promote_types(features.dtype, torch.float32)
    kept = features.new_empty((batch, locations), dtype=widest_dtype(features))
    return *(features.new_empty(shape, dtype=dtype) for shape in (*found, *saved)), kept


@gradients.register_fake
def _gradient_shapes(*args: Any) -> list[Tensor]:
    inputs, needed = args[3:8], args[12]
    return [
        torch.empty_like(given, memory_format=torch.contiguous_format)
        if wanted and given is not None
        else inputs[0].new_empty(0)
        for given, wanted in zip(inputs, needed, strict=True)
    ]


def _remember(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.save_for_backward(*inputs[:5], *output[PUBLIC_OUTPUTS:])
    ctx.mark_non_differentiable(*output[len(OUTPUTS) - len(CERTIFICATES) :])
    ctx.set_materialize_grads(False)
    ctx.settings = inputs[5:]


def _backward(ctx: Any, *pulled: Tensor | None) -> tuple[Tensor | None, ...]:
    needed = list(ctx.needs_input_grad[:5])
    found = gradients(*pulled[:3], *ctx.saved_tensors, needed, *ctx.settings)
    kept = [gradient if wanted else None for gradient, wanted in zip(found, needed, strict=True)]
    return (*kept, *(None for _ in ctx.settings))


generalized_sum_pooling.register_autograd(_backward, setup_context=_remember)


def _one_by_one(operator: Any, size: int, dims: Sequence[Any], args: Sequence[Any]) -> list[Any]:
    """Run an operator on each slice of the arguments, and stack its results."""
    results = []
    for index in range(size):
        taken = [
            arg if dim is None else arg.select(dim, index)
            for arg, dim in zip(args, dims, strict=True)
        ]
        results.append(operator(*taken))
    return [torch.stack(values) for values in zip(*results, strict=True)]


@generalized_sum_pooling.register_vmap
def _pool_batched(info: Any, dims: Sequence[Any], *args: Any) -> tuple[Any, Any]:
    """Pool all maps as one batch; if parameters differ between them, pool one after another."""
    features, *others = args
    if any(dim is not None for dim in dims[1:]):
        found = _one_by_one(generalized_sum_pooling, info.batch_size, dims, args)
        return tuple(found), tuple(0 for _ in found)
    batches = features.movedim(dims[0], 0)
    outputs = generalized_sum_pooling(batches.flatten(0, 1), *others)
    split = tuple(value.unflatten(0, batches.shape[:2]) for value in outputs)
    return split, tuple(0 for _ in split)


@gradients.register_vmap
def _gradients_batched(info: Any, dims: Sequence[Any], *args: Any) -> tuple[Any, Any]:
    flat = [None if isinstance(dim, list | tuple) else dim for dim in dims]
    found = _one_by_one(gradients, info.batch_size, flat, args)
    return found, [0 for _ in found]

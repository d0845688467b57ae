"""Check a graph's open sizes: run it once at another batch and another image size."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from gsp_deploy.config import ModelConfig
from gsp_deploy.errors import GspDeployError, flattened
from gsp_deploy.export.trial_run import running

# These differ from the traced sizes and from each other.
_BATCH = 3
_LARGER = (32, 64)
_FEATURE_SIDES = (5, 9)


def check_open_sizes(network: ir.Model, config: ModelConfig) -> None:
    """Run a graph once at another batch and size, if it leaves these open.

    Args:
        network: in standard operators, with one input of images or features.
        config: of the model, for the size that it was trained at.

    Raises:
        GspDeployError: the run fails, or does not return one embedding per image.
    """
    source = network.graph.inputs[0]
    assert source.shape is not None
    assert source.dtype is not None
    traced = tuple(source.shape)
    if all(isinstance(size, int) for size in traced):
        return
    other = _another(traced, config)
    images = np.random.default_rng(0).random(other) * (255 if source.dtype.name == "UINT8" else 1)
    name = str(network.graph.outputs[0].name)
    try:
        with running(network) as graph:
            found = graph.run(images.astype(graph.input.dtype), (name,))[name]
    except GspDeployError as error:
        raise _refusal(config, traced, other, flattened(error, 160)) from error
    if len(found) != other[0]:
        words = f"it returns {len(found)} embeddings"
        raise _refusal(config, traced, other, words)


def _another(traced: tuple[object, ...], config: ModelConfig) -> tuple[int, ...]:
    """Return a shape of the input in which each open size differs from the traced one."""
    spec = config.preprocessing
    batch = traced[0] if isinstance(traced[0], int) else _BATCH
    sides = iter(
        _FEATURE_SIDES if spec is None else (spec.height + _LARGER[0], spec.width + _LARGER[1])
    )
    return (batch, *(size if isinstance(size, int) else next(sides) for size in traced[1:]))


def _refusal(
    config: ModelConfig, traced: tuple[object, ...], other: tuple[int, ...], why: str
) -> GspDeployError:
    sizes_open = any(not isinstance(size, int) for size in traced[1:])
    what = "one image size" if sizes_open else "one batch size"
    option = "without --dynamic-size" if sizes_open else "with --static-batch"
    return GspDeployError(
        f"backbone {config.backbone} is made for {what} (as {'x'.join(map(str, other))} it fails: "
        f"{why}); export it {option}"
    )

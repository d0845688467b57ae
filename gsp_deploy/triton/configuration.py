"""Write the `config.pbtxt` of each model in the repository."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

from gsp_deploy.artifact import TensorSpec
from gsp_deploy.base.choices import Placement
from gsp_deploy.base.elements import ELEMENTS
from gsp_deploy.errors import UsageError
from gsp_deploy.triton.model import ServedModel
from gsp_deploy.triton.pbtxt import Field, Word, entries, to_pbtxt

WARM_UP_FILE = "golden-input.raw"
PIXELS = "pixels"


@dataclass(frozen=True)
class TritonOptions:
    """How Triton runs the model.

    Args:
        max_batch: images in one inference; a plan's own limit if that is smaller.
        queue_delay_us: how long the batcher lets an image wait for others, in microseconds.
        queue_limit: how many images may wait; Triton refuses further ones.
        timeout_us: how long an image may wait before Triton refuses it, in microseconds.
        instances: copies of the model that run at the same time on each device.
        placement: `gpu`, `cpu`, or `auto` to use a GPU if there is one. Plans run on GPUs only.
        threads: threads of one inference on a CPU; 0 leaves the choice to ONNX Runtime.

    Raises:
        UsageError: a value is outside its domain.
    """

    max_batch: int = 32
    queue_delay_us: int = 2000
    queue_limit: int = 256
    timeout_us: int = 1_000_000
    instances: int = 1
    placement: Placement = "auto"
    threads: int = 0

    def __post_init__(self) -> None:
        for name in ("max_batch", "queue_limit", "timeout_us", "instances"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("queue_delay_us", "threads"):
            if getattr(self, name) < 0:
                raise UsageError(f"{name} must be 0 or more, got {getattr(self, name)}")
        if self.placement not in get_args(Placement):
            raise UsageError(
                f"placement must be one of {', '.join(get_args(Placement))}, got {self.placement!r}"
            )


def network_config(
    name: str, model: ServedModel, golden_size: Sequence[int], options: TritonOptions
) -> str:
    """Return the configuration of the network, with a warm-up by one golden input.

    `golden_size` is the shape of that input without the batch.

    Raises:
        UsageError: the model is a plan, and the placement is `cpu`.
    """
    is_plan = model.backend == "tensorrt"
    if is_plan and options.placement == "cpu":
        raise UsageError(f"{model.path}: a plan runs on a GPU only; package the .onnx for a CPU")
    batch = min(options.max_batch, model.max_batch or options.max_batch)
    message: dict[str, Field] = {
        "name": name,
        "backend": model.backend,
        "default_model_filename": model.file_name,
        "max_batch_size": batch,
        "input": [_tensor(model.input)],
        "output": [_network_output(output) for output in model.outputs],
        "dynamic_batching": _batching(batch, options),
        "instance_group": [_instances("gpu" if is_plan else options.placement, is_plan, options)],
        "optimization": _plan_optimisation() if is_plan else _pinned(),
        "model_warmup": [_warm_up(model.input, golden_size, size) for size in sorted({1, batch})],
    }
    if not is_plan:
        message["parameters"] = _parameters({"intra_op_thread_count": str(options.threads)})
    return to_pbtxt(message)


def normaliser_config(name: str, network_input: TensorSpec, options: TritonOptions) -> str:
    """Return the configuration of the graph that converts pixels to the network's input."""
    return to_pbtxt(
        {
            "name": name,
            "backend": "onnxruntime",
            "default_model_filename": "model.onnx",
            "max_batch_size": options.max_batch,
            "input": [_tensor(pixels_of(network_input))],
            "output": [_tensor(network_input)],
            "instance_group": [_instances(options.placement, False, options)],
            "parameters": _parameters({"intra_op_thread_count": "1"}),
        }
    )


def ensemble_config(
    name: str, steps: tuple[str, str], model: ServedModel, options: TritonOptions
) -> str:
    """Return the configuration of the ensemble: the normaliser, then the network."""
    normalised = f"normalised_{model.input.name}"
    batch = min(options.max_batch, model.max_batch or options.max_batch)
    return to_pbtxt(
        {
            "name": name,
            "platform": "ensemble",
            "max_batch_size": batch,
            "input": [_tensor(pixels_of(model.input))],
            "output": [_tensor(output) for output in model.outputs],
            "ensemble_scheduling": {
                "step": [
                    _step(steps[0], {PIXELS: PIXELS}, {model.input.name: normalised}),
                    _step(
                        steps[1],
                        {model.input.name: normalised},
                        {output.name: output.name for output in model.outputs},
                    ),
                ]
            },
        }
    )


def pixels_of(network_input: TensorSpec) -> TensorSpec:
    """Return the pixel input of the ensemble, for a network with a normalised input."""
    batch, _, height, width = network_input.shape
    return TensorSpec(PIXELS, "uint8", (batch, height, width, 3))


def _tensor(spec: TensorSpec) -> Mapping[str, Field]:
    """Return a tensor without its batch, because `max_batch_size` implies it; open sizes are -1."""
    dims = [size if isinstance(size, int) else -1 for size in spec.shape[1:]]
    return {"name": spec.name, "data_type": Word(_type_word(spec.dtype)), "dims": dims or [1]}


def _network_output(spec: TensorSpec) -> Mapping[str, Field]:
    """Return an output; Triton needs a dimension, so one number per image is sent as (batch, 1)."""
    reshape: dict[str, Field] = {} if len(spec.shape) > 1 else {"reshape": {}}
    return {**_tensor(spec), **reshape}


def _batching(batch: int, options: TritonOptions) -> Mapping[str, Field]:
    return {
        "preferred_batch_size": [batch],
        "max_queue_delay_microseconds": options.queue_delay_us,
        "default_queue_policy": {
            "timeout_action": Word("REJECT"),
            "default_timeout_microseconds": options.timeout_us,
            "allow_timeout_override": True,
            "max_queue_size": options.queue_limit,
        },
    }


def _instances(
    placement: Placement, has_profiles: bool, options: TritonOptions
) -> Mapping[str, Field]:
    group: dict[str, Field] = {
        "kind": Word(f"KIND_{placement.upper()}"),
        "count": options.instances,
    }
    if has_profiles:
        group["profile"] = ["0"]
    return group


def _plan_optimisation() -> Mapping[str, Field]:
    """Return CUDA graphs and pinned copies; a batch size without a graph runs without one."""
    return {"cuda": {"graphs": True, "output_copy_stream": True}, **_pinned()}


def _pinned() -> Mapping[str, Field]:
    """Return page-locked copies; ONNX Runtime enables its own optimisations by default."""
    return {
        "input_pinned_memory": {"enable": True},
        "output_pinned_memory": {"enable": True},
    }


def _warm_up(tensor: TensorSpec, golden_size: Sequence[int], batch: int) -> Mapping[str, Field]:
    """Return a warm-up; for every image of the batch Triton reads the one in the file."""
    source: dict[str, Field] = {
        "data_type": Word(_type_word(tensor.dtype)),
        "dims": list(golden_size),
        "input_data_file": WARM_UP_FILE,
    }
    return {
        "name": f"golden, batch {batch}",
        "batch_size": batch,
        "count": 2,
        "inputs": entries({tensor.name: source}),
    }


def _step(model: str, inputs: Mapping[str, str], outputs: Mapping[str, str]) -> Mapping[str, Field]:
    return {
        "model_name": model,
        "model_version": -1,
        "input_map": entries(inputs),
        "output_map": entries(outputs),
    }


def _parameters(values: Mapping[str, str]) -> Sequence[Field]:
    return entries({key: {"string_value": value} for key, value in values.items()})


def _type_word(dtype: str) -> str:
    """Return Triton's name of an element type.

    >>> _type_word("float32")
    'TYPE_FP32'
    """
    return f"TYPE_{ELEMENTS[dtype].kserve}"

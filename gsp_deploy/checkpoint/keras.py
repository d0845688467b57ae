"""Read the `.h5` files of GSP's authors' TensorFlow framework, without TensorFlow.

Such a file has the settings of its layers as JSON, and the weights under the layers' names. Read
are Keras's ResNet-50 with a GSP head; of BN-Inception we do not know the names.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from gsp_deploy.backbones.keras_resnet50 import NAME as RESNET50
from gsp_deploy.base.inputs import require_regular
from gsp_deploy.base.platforms import install_line
from gsp_deploy.base.worker import WorkerError, WorkerLacksPackageError, run_worker
from gsp_deploy.checkpoint.authors import with_settings
from gsp_deploy.config import GSPConfig, ModelConfig, PreprocessingSpec
from gsp_deploy.errors import (
    CheckpointError,
    ConfigError,
    MissingCapabilityError,
    flattened,
    reason_of,
)
from gsp_deploy.model import EmbeddingModel

SUFFIXES = (".h5", ".hdf5")
SECONDS = 300
# The framework crops 227 pixels of a shorter side of 256, and multiplies by 255 after the mean.
CROP_RATIO = 227 / 256
SPEC = PreprocessingSpec(227, 227, std=(1 / 255,) * 3, crop_ratio=CROP_RATIO)
_WORKER = Path(__file__).with_name("keras_worker.py")
_HEAD = "GeneralizedSumPooling"
_BACKBONE = "resnet50"
_BLOCK = re.compile(r"conv(\d)_block(\d)_(\d)_(conv|bn)")
_PARTS = {
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}


def read_keras_model(
    path: Path, settings: Mapping[str, Any], preprocessing: PreprocessingSpec | None
) -> EmbeddingModel:
    """Build a model from a `.h5` of the authors' TensorFlow framework.

    Args:
        path: the file.
        settings: fields of `GSPConfig` to replace.
        preprocessing: how to prepare images; None is the framework's, with ImageNet's mean.

    Raises:
        CheckpointError: the file is damaged, or another network.
        MissingCapabilityError: h5py is not installed.
    """
    text, arrays = _contents(path)
    layers = _layers(text, path)
    head = _head_config(layers, arrays, settings, path)
    config = ModelConfig(RESNET50, head, preprocessing or SPEC)
    try:
        model = EmbeddingModel(config)
        backbone = _backbone_state(arrays)
        model.backbone.load_state_dict(backbone, strict=False)
        missing = model.backbone.state_dict().keys() - backbone.keys()
        if unfilled := sorted(name for name in missing if "num_batches" not in name):
            raise CheckpointError(f"{path}: {_BACKBONE} lacks {unfilled[0]} and perhaps others")
        model.head.load_state_dict(_head_state(arrays, path))
    except (RuntimeError, ConfigError) as error:
        raise CheckpointError(f"{path}: {flattened(error)}") from error
    return model


def _contents(path: Path) -> tuple[str, dict[str, Tensor]]:
    """Return the file's JSON and its arrays, as a process of its own reads them."""
    with tempfile.TemporaryDirectory(prefix="gsp-keras-") as folder:
        copy = Path(folder) / "weights.safetensors"
        try:
            require_regular(path)
            run_worker(_WORKER, path, copy, seconds=SECONDS)
            with safe_open(copy, framework="pt") as stream:
                arrays = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118
                return stream.metadata()["model_config"], arrays
        except WorkerLacksPackageError as error:
            raise MissingCapabilityError(
                f"reading .h5 needs h5py: {install_line('train')}"
            ) from error
        except (WorkerError, SafetensorError, OSError) as error:
            raise CheckpointError(
                f"{path}: not a Keras model that h5py can read ({reason_of(error)}); expected the "
                ".h5 that the authors' framework saves"
            ) from error


def _layers(text: str, path: Path) -> dict[str, dict[str, Any]]:
    """Return the settings of each layer by its class's name, without the package before it."""
    try:
        listed = json.loads(text)["config"]["layers"]
        return {layer["class_name"].rpartition(">")[2]: layer["config"] for layer in listed}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise CheckpointError(
            f"{path}: model_config is not the description of a Keras model ({reason_of(error)})"
        ) from error


def _head_config(
    layers: Mapping[str, Mapping[str, Any]],
    arrays: Mapping[str, Tensor],
    settings: Mapping[str, Any],
    path: Path,
) -> GSPConfig:
    layer = layers.get(_HEAD)
    if layer is None or not any(name.startswith(f"{_BACKBONE}/conv1_conv/") for name in arrays):
        raise CheckpointError(
            f"{path}: expected Keras's ResNet-50 ({_BACKBONE}) and a layer {_HEAD}, found "
            f"{', '.join(layers)}"
        )
    if (costs := layer.get("binary_costs")) != "l2" or layer.get("normalization") != "l2":
        raise CheckpointError(
            f"{path}: expected costs and normalisation l2, found {costs!r} and "
            f"{layer.get('normalization')!r}"
        )
    kernel = _array(arrays, "feature_transform/kernel:0", path)
    stored = {
        "transport_ratio": layer.get("transport_ratio"),
        "entropy_weight": layer.get("entropy_regularizer_weight"),
        "iterations": layer.get("optimization_steps"),
        "solver": "fixed-point",
        "initial_scale": 1.0,
        "pooling": "gem" if layer.get("use_gemp") else "gap",
        "max_residual": layer.get("augment_max_pool", False),
    }
    return GSPConfig(
        in_channels=kernel.shape[-2],
        embedding_dim=kernel.shape[-1],
        num_prototypes=len(_array(arrays, "/target_support:0", path)),
        bias=False,
        **with_settings(stored, settings),
    )


def _head_state(arrays: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    state = {
        "embed.weight": _array(arrays, "feature_transform/kernel:0", path)[0, 0].T.contiguous(),
        "prototypes": _array(arrays, "/target_support:0", path),
    }
    if any(name.endswith("/power:0") for name in arrays):
        state["power"] = _array(arrays, "/power:0", path).reshape(())
    return state


def _array(arrays: Mapping[str, Tensor], ending: str, path: Path) -> Tensor:
    found = [name for name in arrays if name.endswith(ending)]
    if len(found) != 1:
        raise CheckpointError(f"{path}: expected one array {ending}, found {len(found)}")
    return arrays[found[0]]


def _backbone_state(arrays: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the backbone's tensors under timm's names.

    Two things go into the weights: Keras's convolutions have biases, which batch norm's mean takes,
    and its images are BGR, so that the first convolution's channels turn around.
    """
    state: dict[str, Tensor] = {}
    biases: dict[str, Tensor] = {}
    for name, array in arrays.items():
        layer, _, part = name.removeprefix(f"{_BACKBONE}/").partition("/")
        target = _target(layer)
        if target is None or not name.startswith(f"{_BACKBONE}/"):
            continue
        part = part.removesuffix(":0")
        if part == "kernel":
            state[f"{target}.weight"] = array.permute(3, 2, 0, 1).contiguous()
        elif layer.endswith("conv") and part == "bias":
            biases[_norm_of(target)] = array
        elif part in _PARTS:
            state[f"{target}.{_PARTS[part]}"] = array
    for target, bias in biases.items():
        state[f"{target}.running_mean"] = state[f"{target}.running_mean"] - bias
    if "conv1.weight" in state:
        state["conv1.weight"] = state["conv1.weight"].flip(1)
    return state


def _target(layer: str) -> str | None:
    """Return timm's name of a Keras layer.

    >>> _target("conv3_block1_0_bn"), _target("conv1_conv"), _target("pool1_pool")
    ('layer2.0.downsample.1', 'conv1', None)
    """
    if layer in ("conv1_conv", "conv1_bn"):
        return "conv1" if layer == "conv1_conv" else "bn1"
    found = _BLOCK.fullmatch(layer)
    if found is None:
        return None
    stage, block, place, kind = int(found[1]) - 1, int(found[2]) - 1, found[3], found[4]
    if place == "0":
        return f"layer{stage}.{block}.downsample.{0 if kind == 'conv' else 1}"
    return f"layer{stage}.{block}.{kind}{place}"


def _norm_of(convolution: str) -> str:
    if convolution.endswith("downsample.0"):
        return convolution.removesuffix("0") + "1"
    return convolution.replace("conv", "bn")

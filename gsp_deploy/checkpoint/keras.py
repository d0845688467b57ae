"""Read the `.h5` files of GSP's authors' TensorFlow framework, without TensorFlow.

Such a file has the settings of its layers as JSON, and the weights under the layers' names. Read
are Keras's ResNet-50, by its names, and BN-Inception, by its graph, with a GSP head.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from gsp_deploy.backbones.bn_inception import NAME as BN_INCEPTION
from gsp_deploy.backbones.keras_resnet50 import NAME as RESNET50
from gsp_deploy.base.inputs import require_regular
from gsp_deploy.base.platforms import install_line
from gsp_deploy.base.worker import WorkerError, WorkerLacksPackageError, run_worker
from gsp_deploy.checkpoint.authors import with_settings
from gsp_deploy.checkpoint.keras_bn_inception import BNInceptionReader
from gsp_deploy.checkpoint.keras_graph import networks_of
from gsp_deploy.checkpoint.keras_resnet50 import NAME as KERAS_RESNET50
from gsp_deploy.checkpoint.keras_resnet50 import resnet50_state
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
    document = _document(text, path)
    layers = _layers(document, path)
    name, backbone = _backbone(document, arrays, path)
    head = _head_config(layers, arrays, settings, path)
    config = ModelConfig(name, head, preprocessing or SPEC)
    try:
        model = EmbeddingModel(config)
        model.backbone.load_state_dict(backbone, strict=False)
        missing = model.backbone.state_dict().keys() - backbone.keys()
        if unfilled := sorted(key for key in missing if "num_batches" not in key):
            raise CheckpointError(f"{path}: {name} lacks {unfilled[0]} and perhaps others")
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


def _document(text: str, path: Path) -> dict[str, Any]:
    try:
        document: dict[str, Any] = json.loads(text)
        return document
    except (ValueError, RecursionError) as error:
        raise _not_a_model(path, error) from error


def _layers(document: dict[str, Any], path: Path) -> dict[str, dict[str, Any]]:
    """Return the settings of each layer by its class's name, without the package before it."""
    try:
        listed = document["config"]["layers"]
        return {layer["class_name"].rpartition(">")[2]: layer["config"] for layer in listed}
    except (TypeError, KeyError, AttributeError) as error:
        raise _not_a_model(path, error) from error


def _not_a_model(path: Path, error: Exception) -> CheckpointError:
    return CheckpointError(
        f"{path}: model_config is not the description of a Keras model ({reason_of(error)})"
    )


def _backbone(
    document: dict[str, Any], arrays: Mapping[str, Tensor], path: Path
) -> tuple[str, dict[str, Tensor]]:
    """Return the backbone's name and its state dict."""
    if any(name.startswith(f"{KERAS_RESNET50}/conv1_conv/") for name in arrays):
        return RESNET50, resnet50_state(arrays)
    try:
        networks = networks_of(document)
        if len(networks) == 1:
            return BN_INCEPTION, BNInceptionReader(networks[0], arrays, path).state()
    except (TypeError, KeyError, ValueError, AttributeError, RecursionError) as error:
        raise _not_a_model(path, error) from error
    raise CheckpointError(
        f"{path}: expected Keras's ResNet-50 ({KERAS_RESNET50}) or a BN-Inception, which are read, "
        f"found {', '.join(network.name for network in networks) or 'no network'}"
    )


def _head_config(
    layers: Mapping[str, Mapping[str, Any]],
    arrays: Mapping[str, Tensor],
    settings: Mapping[str, Any],
    path: Path,
) -> GSPConfig:
    layer = layers.get(_HEAD)
    if layer is None:
        raise CheckpointError(
            f"{path}: expected a backbone and a layer {_HEAD}, found {', '.join(layers)}"
        )
    if (costs := layer.get("binary_costs")) != "l2" or layer.get("normalization") != "l2":
        raise CheckpointError(
            f"{path}: expected costs and normalisation l2, found {costs!r} and "
            f"{layer.get('normalization')!r}"
        )
    _refuse_unset_prototypes(layer, arrays, path)
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


def _refuse_unset_prototypes(
    layer: Mapping[str, Any], arrays: Mapping[str, Tensor], path: Path
) -> None:
    """Refuse a head whose memory was not full yet: the authors' layer averages until then."""
    uses_memory = layer.get("memory_size", 0) > layer.get("support_size", 0)
    flags = [array for array in arrays.values() if array.dtype == torch.bool]
    if uses_memory and not all(flag.all() for flag in flags):
        raise CheckpointError(
            f"{path}: its prototypes were not set yet, since {_HEAD}'s memory of "
            f"{layer['memory_size']} embeddings was not full; save the file after more steps"
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

"""Checkpoints: safetensors with the whole config in their metadata, or the authors' state dict.

Nothing here unpickles: `.pt` files are read with `weights_only=True`, which refuses anything but
tensors and plain containers.
"""

from __future__ import annotations

import dataclasses
import json
import os
import pickle
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from gsp_deploy.config import GSPConfig, ModelConfig, PoolingMode, PreprocessingSpec, Solver
from gsp_deploy.errors import CheckpointError, ConfigError, brief, flattened, reason_of
from gsp_deploy.fields import from_fields
from gsp_deploy.files import replacing
from gsp_deploy.integrity import damaged_record, digest_of
from gsp_deploy.model import EmbeddingModel
from gsp_deploy.reference_checkpoint import read_reference_model

FORMAT_VERSION = 1
METADATA_KEY = "gsp_deploy"  # one alone: safetensors writes several in any order
_DIGEST = "sha256"

# Floating-point weights, and what batch norms and flags count with.
_WEIGHT_TYPES = frozenset(
    {
        torch.float64, torch.float32, torch.float16, torch.bfloat16,
        torch.int64, torch.int32, torch.uint8, torch.bool,
    }
)  # fmt: skip


@dataclass(frozen=True)
class Provenance:
    """Where weights come from; travels with them into every artifact.

    Attributes:
        license: SPDX identifier of the weights, or None when unknown.
        dataset: specification of the training data.
        command: the command that made the checkpoint.
        metrics: validation metrics at the time of saving, in [0, 1].
        notes: anything else a reader should know.
    """

    license: str | None = None
    dataset: str | None = None
    command: str | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    notes: str | None = None


@dataclass(frozen=True)
class CheckpointMetadata:
    """What a checkpoint says of itself."""

    model: ModelConfig
    provenance: Provenance


@dataclass(frozen=True)
class CheckpointContents:
    """A checkpoint file as it is: its tensors and, when it is one of ours, what it says."""

    tensors: Mapping[str, Tensor]
    metadata: CheckpointMetadata | None


def save_checkpoint(
    model: EmbeddingModel, path: str | os.PathLike[str], provenance: Provenance | None = None
) -> None:
    """Write the model's weights and config to a `.safetensors` file, whole or not at all.

    A digest of both goes with them, by which `read_checkpoint` tells damage.
    """
    fields = {
        "format": FORMAT_VERSION,
        "model": model.config.to_dict(),
        "provenance": dataclasses.asdict(provenance or Provenance()),
    }
    tensors = {name: t.detach().cpu().contiguous() for name, t in model.state_dict().items()}
    fields[_DIGEST] = digest_of(tensors, fields)
    content = save(tensors, metadata={METADATA_KEY: json.dumps(fields, sort_keys=True)})
    with replacing(path) as temporary:
        temporary.write_bytes(content)  # safetensors' own writer hides its file from other users


def load_checkpoint(
    path: str | os.PathLike[str],
    *,
    backbone: str | None = None,
    backbone_options: Mapping[str, Any] | None = None,
    preprocessing: PreprocessingSpec | None = None,
    transport_ratio: float | None = None,
    entropy_weight: float | None = None,
    iterations: int | None = None,
    solver: Solver | None = None,
    pooling: PoolingMode | None = None,
    max_residual: bool | None = None,
    normalize: bool | None = None,
) -> EmbeddingModel:
    """Load a checkpoint of ours, or the authors' state dict, as a model in eval mode on the CPU.

    The authors' state dict (`embed.*`, `prototypes`, `power`, under any prefix) holds no
    settings: those not given here are their PyTorch layer's. For a checkpoint of ours, what is
    given replaces what it says. Nothing in a file is run.

    Args:
        path: `.safetensors`, `.pt` or `.pth`.
        backbone: timm architecture of the other tensors of a state dict; a head alone, without
            it, becomes a model whose input is the feature map.
        backbone_options: go to `timm.create_model` with it.
        preprocessing: how images are prepared for it; None is ImageNet's at 224 pixels.
        transport_ratio: mu; the authors' is 0.3.
        entropy_weight: gamma; the authors' is 0.1.
        iterations: solver steps; the authors' are 100.
        solver: `fixed-point`, the authors', or `newton`.
        pooling: `gap`, `gmp` or `gem`; the authors' is `gmp`, or `gem` where there is a `power`.
        max_residual: add the embedding of the maxima, as the authors' TensorFlow layer may.
        normalize: L2-normalise the embedding, as the authors do.

    Raises:
        CheckpointError: the file is missing, damaged, hostile, or does not fit its config.
        ConfigError: a setting is outside its domain.
    """
    head_settings = {
        "transport_ratio": transport_ratio,
        "entropy_weight": entropy_weight,
        "iterations": iterations,
        "solver": solver,
        "pooling": pooling,
        "max_residual": max_residual,
        "normalize": normalize,
    }
    given = {name: value for name, value in head_settings.items() if value is not None}
    contents = read_checkpoint(path)
    if contents.metadata is None:
        model = read_reference_model(
            contents.tensors, Path(path), given, backbone, backbone_options or {}, preprocessing
        )
    else:
        _refuse_backbone_options(path, backbone, backbone_options, preprocessing)
        config = _with_head_settings(contents.metadata.model, given)
        model = _build(contents.tensors, config, path)
    return model.eval()


def read_checkpoint(path: str | os.PathLike[str]) -> CheckpointContents:
    """Read a checkpoint file without building a model.

    Raises:
        CheckpointError: the file is missing, damaged or hostile, or holds NaN or infinity.
            Damage of every bit is told where there is a digest (`save_checkpoint` writes one) or
            a checksum (PyTorch's archives have them); safetensors of others have neither.
    """
    tensors, header = _read(Path(path))
    metadata = None
    if header is not None:
        metadata = parse_header(header, path)
        _check_digest(tensors, header, path)
    _check_tensors(tensors, path)
    return CheckpointContents(tensors, metadata)


def parse_header(header: str, path: str | os.PathLike[str]) -> CheckpointMetadata:
    """Parse the metadata of a checkpoint of ours.

    Raises:
        CheckpointError: it is not JSON, of a newer format, or holds an invalid config.
    """
    try:
        data = json.loads(header)
        if not isinstance(data, dict):
            raise CheckpointError(f"{path}: the checkpoint's metadata is no table of settings")
        if data.get("format") != FORMAT_VERSION:
            raise CheckpointError(
                f"{path}: checkpoint format {brief(data.get('format'))}, this version reads "
                f"{FORMAT_VERSION}; update gsp-deploy or save the checkpoint again"
            )
        provenance = from_fields(Provenance, data.get("provenance", {}))
        return CheckpointMetadata(ModelConfig.from_dict(data.get("model", {})), provenance)
    except (ValueError, TypeError, RecursionError) as error:  # JSON's and config's among them
        raise CheckpointError(
            f"{path}: the checkpoint's metadata is damaged: {reason_of(error)}"
        ) from error


def _read(path: Path) -> tuple[dict[str, Tensor], str | None]:
    """Return the tensors and, for a checkpoint of ours, its metadata header."""
    if not path.is_file():
        raise CheckpointError(f"{path}: no such checkpoint file")
    if path.suffix == ".onnx":
        raise CheckpointError(
            f"{path}: an exported model and no checkpoint; `export --from` rewrites one, `build` "
            "takes it as it is"
        )
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    return _read_state_dict(path), None


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], str | None]:
    try:
        with safe_open(path, framework="pt") as stream:
            tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118
            return tensors, (stream.metadata() or {}).get(METADATA_KEY)
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(
            f"{path}: not a whole safetensors file ({reason_of(error)})"
        ) from error


def _read_state_dict(path: Path) -> dict[str, Tensor]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a hostile file's protocol; the error says enough
            data = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path}: refused, the file is damaged or holds more than tensors; "
            "save `model.state_dict()` (better: as .safetensors)"
        ) from error
    except Exception as error:  # torch.load fails with whatever its archive reader meets
        raise CheckpointError(f"{path}: not a whole PyTorch file ({reason_of(error)})") from error
    if record := damaged_record(path):
        raise CheckpointError(
            f"{path}: not as it was saved (the checksum of {brief(record)} differs); fetch or copy "
            "it again"
        )
    for wrapper in ("state_dict", "model_state_dict", "model"):
        if isinstance(data, Mapping) and isinstance(data.get(wrapper), Mapping):
            data = data[wrapper]
    if not isinstance(data, Mapping):
        raise CheckpointError(f"{path}: expected a state dict, got {type(data).__name__}")
    return {str(name): value for name, value in data.items() if isinstance(value, Tensor)}


def _check_digest(tensors: Mapping[str, Tensor], header: str, path: str | os.PathLike[str]) -> None:
    """Hold weights and settings against the digest among them, which older files do not have."""
    fields = json.loads(header)
    digest = fields.pop(_DIGEST, None)
    if digest is not None and digest != digest_of(tensors, fields):
        raise CheckpointError(
            f"{path}: not as it was saved (the SHA-256 of its contents differs); fetch or copy it "
            "again, or save changed weights with save_checkpoint"
        )


def _check_tensors(tensors: Mapping[str, Tensor], path: str | os.PathLike[str]) -> None:
    for name, tensor in tensors.items():
        if tensor.dtype not in _WEIGHT_TYPES or tensor.layout != torch.strided or tensor.is_meta:
            kind = "meta" if tensor.is_meta else f"{tensor.layout} {tensor.dtype}"
            raise CheckpointError(
                f"{path}: tensor {name} is {kind.replace('torch.', '')}; "
                "save weights as dense float32, float16 or bfloat16"
            )
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise CheckpointError(f"{path}: tensor {name} holds NaN or infinity")


def _with_head_settings(config: ModelConfig, given: Mapping[str, Any]) -> ModelConfig:
    if not given:
        return config
    if not isinstance(config.head, GSPConfig):
        raise ConfigError(
            f"the checkpoint's head is {config.head.pooling}; it has no {next(iter(given))}"
        )
    if "solver" in given and "iterations" not in given:
        given = {**given, "iterations": None}
    return dataclasses.replace(config, head=dataclasses.replace(config.head, **given))


def _refuse_backbone_options(path: str | os.PathLike[str], *options: object) -> None:
    if any(option is not None for option in options):
        raise ConfigError(
            f"{path} says itself which backbone and pre-processing it has; leave those options out"
        )


def _build(
    tensors: Mapping[str, Tensor], config: ModelConfig, path: str | os.PathLike[str]
) -> EmbeddingModel:
    _check_head_shapes(tensors, config, path)
    model = EmbeddingModel(config)
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        raise CheckpointError(
            f"{path}: weights do not fit the checkpoint's config: {flattened(error)}"
        ) from error
    return model


def _check_head_shapes(
    tensors: Mapping[str, Tensor], config: ModelConfig, path: str | os.PathLike[str]
) -> None:
    """Hold the config against the file before memory of the sizes that it names is asked for."""
    head = config.head
    wanted = {"head.embed.weight": (head.embedding_dim, head.in_channels)}
    if isinstance(head, GSPConfig):
        wanted["head.prototypes"] = (head.num_prototypes, head.embedding_dim)
    for name, shape in wanted.items():
        found = tuple(tensors[name].shape) if name in tensors else "none"
        if found != shape:
            raise CheckpointError(
                f"{path}: weights do not fit the checkpoint's config: "
                f"expected {name} of shape {brief(shape)}, found {found}"
            )

"""Read a checkpoint file from any source, without trusting it and without building a model."""

from __future__ import annotations

import json
import os
import pickle
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from gsp_deploy.artifact.kind import ONNX, kind_of
from gsp_deploy.checkpoint.candidates import choose_weights
from gsp_deploy.checkpoint.integrity import damaged_record, digest_of
from gsp_deploy.checkpoint.metadata import DIGEST, METADATA_KEY, CheckpointMetadata, parse_header
from gsp_deploy.errors import CheckpointError, brief, reason_of

SAFETENSORS = ".safetensors"
# Floating-point weights, and the integer types of batch norms' counters and of flags.
_WEIGHT_TYPES = frozenset(
    {
        torch.float64, torch.float32, torch.float16, torch.bfloat16,
        torch.int64, torch.int32, torch.uint8, torch.bool,
    }
)  # fmt: skip


@dataclass(frozen=True)
class CheckpointContents:
    """The contents of a checkpoint file: its tensors and, if gsp-deploy wrote it, its metadata.

    `notes` has lines about the choice if the file had several sets of weights.
    """

    tensors: Mapping[str, Tensor]
    metadata: CheckpointMetadata | None
    notes: tuple[str, ...] = ()


def read_checkpoint(
    path: str | os.PathLike[str], weights_key: str | None = None
) -> CheckpointContents:
    """Read a checkpoint file without building a model.

    Args:
        path: `.safetensors`, `.pt` or `.pth`.
        weights_key: key of the set to take if a training script saved several sets of weights
            (`state_dict_ema`, `ema.module`); None takes averaged weights (EMA) before plain ones,
            as timm does.

    Raises:
        CheckpointError: the file is missing, damaged or hostile, contains NaN or infinity, or
            contains several sets of weights and the rule prefers none.
            Every flipped bit is found if there is a digest (`save_checkpoint` writes one) or a
            checksum (PyTorch's archives have them). Other tools' safetensors have neither.
    """
    tensors, header, notes = _read(Path(path), weights_key)
    metadata = None
    if header is not None:
        metadata = parse_header(header, path)
        _check_digest(tensors, header, path)
    _check_tensors(tensors, path)
    return CheckpointContents(tensors, metadata, notes)


def read_metadata(path: str | os.PathLike[str]) -> CheckpointMetadata | None:
    """Read the metadata of one of our checkpoints without its weights; None for any other file.

    This does not detect damaged weights; `read_checkpoint` does.

    Raises:
        CheckpointError: the file is missing, or its metadata is damaged.
    """
    file = Path(path)
    _check_kind(file)
    if file.suffix != SAFETENSORS:
        return None
    with _whole(file) as stream:
        header = _header(stream)
    return None if header is None else parse_header(header, path)


def _read(
    path: Path, weights_key: str | None
) -> tuple[Mapping[str, Tensor], str | None, tuple[str, ...]]:
    """Return the tensors, the metadata header if the checkpoint is ours, and notes for the user."""
    _check_kind(path)
    if path.suffix != SAFETENSORS:
        chosen = choose_weights(_read_pickled(path), weights_key, path)
        return chosen.tensors, None, chosen.notes
    if weights_key is not None:
        raise CheckpointError(
            f"{path}: a safetensors file contains one set of weights without a key; leave "
            "--weights-key out, or choose among its names with --prefix"
        )
    with _whole(path) as stream:
        tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118
        return tensors, _header(stream), ()


def _check_kind(path: Path) -> None:
    if not path.is_file():
        raise CheckpointError(f"{path}: no such checkpoint file")
    if kind_of(path) is ONNX:
        raise CheckpointError(
            f"{path}: expected a checkpoint, got an exported model; pass it to `export --from` to "
            "rewrite it, or to `build` as it is"
        )


@contextmanager
def _whole(path: Path) -> Iterator[Any]:
    """Yield an open safetensors file; turn its errors into ones that name `path`."""
    try:
        with safe_open(path, framework="pt") as stream:
            yield stream
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(
            f"{path}: not a whole safetensors file ({reason_of(error)})"
        ) from error


def _header(stream: Any) -> str | None:
    header: str | None = (stream.metadata() or {}).get(METADATA_KEY)
    return header


def _read_pickled(path: Path) -> Mapping[Any, Any]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about a hostile file's protocol; the error suffices
            data = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, LookupError) as error:  # LookupError: a text, for example
        raise CheckpointError(
            f"{path}: refused, the file is damaged or contains more than tensors; "
            "save `model.state_dict()` (better: as .safetensors)"
        ) from error
    except Exception as error:  # torch.load's archive reader may raise any type
        raise CheckpointError(f"{path}: not a whole PyTorch file ({reason_of(error)})") from error
    if record := damaged_record(path):
        raise CheckpointError(
            f"{path}: changed since it was saved (the checksum of {brief(record)} differs); fetch "
            "or copy it again"
        )
    if not isinstance(data, Mapping):
        raise CheckpointError(f"{path}: expected a state dict, got {type(data).__name__}")
    return data


def _check_digest(tensors: Mapping[str, Tensor], header: str, path: str | os.PathLike[str]) -> None:
    """Check weights and settings against the digest in the header; older files have none."""
    fields = json.loads(header)
    digest = fields.pop(DIGEST, None)
    if digest is not None and digest != digest_of(tensors, fields):
        raise CheckpointError(
            f"{path}: changed since it was saved (the SHA-256 of its contents differs); fetch or "
            "copy it again, or save changed weights with save_checkpoint"
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
            raise CheckpointError(
                f"{path}: tensor {name} holds NaN or infinity; use an earlier checkpoint of the run"
            )

"""Weights from the Hugging Face hub: safetensors only, from its cache if they are there.

The cache holds files as links into blobs; they are read where they are. With `HF_HUB_OFFLINE=1`
nothing is asked of the network.
"""

from __future__ import annotations

import re
from pathlib import Path

import huggingface_hub
from huggingface_hub import snapshot_download

from gsp_deploy.base.names import HUB
from gsp_deploy.checkpoint.candidates import in_short
from gsp_deploy.errors import CheckpointError, UsageError, reason_of

_USUAL = "model.safetensors"
_NAME = re.compile(
    r"(?P<repository>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?(:(?P<file>[\w./-]+))?"
)


def hub_file(name: str) -> Path:
    """Return the local path of weights on the hub; they are downloaded unless they are cached.

    Args:
        name: `hf-hub:owner/name`, `hf-hub:owner/name@revision`, and `:file.safetensors` after
            either. Without a file it is `model.safetensors`, or the only one.

    Raises:
        UsageError: the name is not of this form, or its file is no safetensors.
        CheckpointError: the hub does not have it, or it is not cached and there is no network.
    """
    asked = _NAME.fullmatch(name.removeprefix(HUB))
    if asked is None:
        raise UsageError(f"expected {HUB}owner/name, got {name!r}")
    file = asked["file"]
    if file is not None and not file.endswith(".safetensors"):
        raise UsageError(
            f"{name}: expected a file ending in .safetensors; other kinds from the hub are refused"
        )
    try:
        folder = snapshot_download(
            asked["repository"],
            revision=asked["revision"],
            allow_patterns=[file or "*.safetensors"],
        )
    except Exception as error:  # a dozen types, of the hub and of its HTTP client
        hint = (
            "it is not in the cache, and HF_HUB_OFFLINE is set"
            if huggingface_hub.constants.HF_HUB_OFFLINE
            else reason_of(error)
        )
        raise CheckpointError(f"{name}: the Hugging Face hub gave no weights: {hint}") from error
    return _chosen(Path(folder), file, name)


def _chosen(folder: Path, file: str | None, name: str) -> Path:
    found = sorted(path for path in folder.rglob("*.safetensors") if path.is_file())
    names = [path.relative_to(folder).as_posix() for path in found]
    wanted = file or (_USUAL if _USUAL in names else names[0] if len(names) == 1 else None)
    if wanted in names:
        return folder / wanted
    if not names:
        raise CheckpointError(f"{name} has no .safetensors; only those are read")
    raise CheckpointError(
        f"{name} has {in_short(names)}; choose one as {HUB}owner/name:file.safetensors"
    )

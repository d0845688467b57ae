"""A saved checkpoint, and the same with its metadata tampered with."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from gsp_deploy.checkpoint import METADATA_KEY, Provenance, save_checkpoint
from gsp_deploy.config import GSPConfig, ModelConfig, PreprocessingSpec
from gsp_deploy.model import EmbeddingModel

from .refusals import Edit


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a small convolutional network with everything at unusual settings."""
    spec = PreprocessingSpec(24, 40, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6), "bicubic", "stretch", 0.9)
    head = GSPConfig(
        16, 5, 3, transport_ratio=0.7, entropy_weight=9.0, iterations=7, solver="newton",
        pooling="gem", max_residual=True, normalize=False, bias=False, initial_scale=0.5,
    )  # fmt: skip
    torch.manual_seed(0)
    model = EmbeddingModel(ModelConfig("small_cnn_s8", head, spec, {"width": 4}))
    path = tmp_path_factory.mktemp("saved") / "model.safetensors"
    provenance = Provenance(
        "Apache-2.0", "folder:birds", "gsp-deploy train x", {"R@1": 0.5}, "a note"
    )
    save_checkpoint(model, path, provenance)
    return path


@pytest.fixture
def tampered(saved: Path, tmp_path: Path) -> Callable[[Edit], Path]:
    """Return the checkpoint with its metadata changed, and without its digest."""

    def write(edit: Edit) -> Path:
        raw = saved.read_bytes()
        length = struct.unpack("<Q", raw[:8])[0]
        header = json.loads(raw[8 : 8 + length])
        data = json.loads(header["__metadata__"][METADATA_KEY])
        del data["sha256"]
        changed = edit(data)
        text = changed if isinstance(changed, str) else json.dumps(data)
        header["__metadata__"][METADATA_KEY] = text
        encoded = json.dumps(header).encode()
        path = tmp_path / "tampered.safetensors"
        path.write_bytes(struct.pack("<Q", len(encoded)) + encoded + raw[8 + length :])
        return path

    return write

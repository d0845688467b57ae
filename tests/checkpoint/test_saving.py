"""Our checkpoints load bit for bit as they were saved, with their settings."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from gsp_deploy.checkpoint import load_checkpoint, read_checkpoint, save_checkpoint
from gsp_deploy.config import BaselineConfig, GSPConfig, ModelConfig, PreprocessingSpec
from gsp_deploy.errors import CheckpointError, ConfigError
from gsp_deploy.model import EmbeddingModel

from .refusals import head_model


def test_round_trip_is_bit_for_bit(saved: Path, tmp_path: Path) -> None:
    model = load_checkpoint(saved)
    assert not model.training
    again = tmp_path / "again.safetensors"
    save_checkpoint(model, again, read_checkpoint(saved).metadata.provenance)
    assert again.read_bytes() == saved.read_bytes()
    stored = load_file(saved)
    assert set(stored) == set(model.state_dict())
    assert all(torch.equal(stored[name], t) for name, t in model.state_dict().items())


def test_settings_and_provenance_travel_in_the_file(saved: Path) -> None:
    metadata = read_checkpoint(saved).metadata
    assert metadata is not None
    assert metadata.model.head.initial_scale == 0.5
    assert metadata.model.preprocessing.mean == (0.1, 0.2, 0.3)
    assert metadata.model.backbone_options == {"width": 4}
    assert metadata.provenance.license == "Apache-2.0"
    assert metadata.provenance.metrics == {"R@1": 0.5}


def test_the_same_model_is_saved_as_the_same_bytes(saved: Path, tmp_path: Path) -> None:
    model = load_checkpoint(saved)
    for name in ("a", "b"):
        save_checkpoint(model, tmp_path / f"{name}.safetensors")
    assert len({(tmp_path / f"{name}.safetensors").read_bytes() for name in "ab"}) == 1


def test_others_may_read_the_file(saved: Path) -> None:
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(saved.stat().st_mode) == 0o666 & ~umask


@pytest.mark.parametrize("pooling", ["gap", "gmp", "gem", "gap+gmp"])
def test_baselines_are_saved_too(pooling: str, tmp_path: Path) -> None:
    model = head_model(BaselineConfig(6, 4, pooling))
    save_checkpoint(model, tmp_path / "b.safetensors")
    features = torch.rand(2, 6, 3, 3)
    loaded = load_checkpoint(tmp_path / "b.safetensors")
    assert torch.equal(loaded(features).embedding, model(features).embedding)
    with pytest.raises(ConfigError, match="transport_ratio"):
        load_checkpoint(tmp_path / "b.safetensors", transport_ratio=0.5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_weights_become_float32_exactly(dtype: torch.dtype, tmp_path: Path) -> None:
    model = head_model(GSPConfig(6, 4, 3)).to(dtype)
    save_checkpoint(model, tmp_path / "half.safetensors")
    loaded = load_checkpoint(tmp_path / "half.safetensors")
    assert loaded.head.prototypes.dtype == torch.float32
    assert torch.equal(loaded.head.prototypes, model.head.prototypes.float())


def test_settings_given_replace_those_in_the_file(saved: Path) -> None:
    head = load_checkpoint(saved, transport_ratio=0.2, entropy_weight=3.0, normalize=True)
    assert head.config.head.transport_ratio == 0.2
    assert head.config.head.entropy_weight == 3.0
    assert head.config.head.normalize
    assert head.config.head.steps == 7


def test_another_solver_brings_its_own_number_of_steps(saved: Path) -> None:
    assert load_checkpoint(saved, solver="fixed-point").config.head.steps == 100
    assert load_checkpoint(saved, solver="fixed-point", iterations=9).config.head.steps == 9


def test_another_pooling_must_fit_the_weights(saved: Path) -> None:
    with pytest.raises(CheckpointError, match="power"):
        load_checkpoint(saved, pooling="gap")


def test_backbone_options_are_refused_where_the_file_knows_better(saved: Path) -> None:
    with pytest.raises(ConfigError, match="leave those options out"):
        load_checkpoint(saved, backbone="resnet18")
    with pytest.raises(ConfigError, match="leave those options out"):
        load_checkpoint(saved, preprocessing=PreprocessingSpec(8, 8))


def test_a_weight_under_several_names_is_stored_under_each(tmp_path: Path) -> None:
    """CoaT's blocks share their position encodings."""
    config = ModelConfig("coat_tiny", BaselineConfig(152, 4), PreprocessingSpec(224, 224))
    model = EmbeddingModel(config)
    save_checkpoint(model, tmp_path / "c.safetensors")
    loaded = load_checkpoint(tmp_path / "c.safetensors").state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in model.state_dict().items())

"""A checkpoint run by PyTorch: the model itself, in the shape of a session."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from gsp_deploy import BaselineConfig, EmbeddingModel, ModelConfig, load_checkpoint, open_session
from gsp_deploy.checkpoint import save_checkpoint
from gsp_deploy.errors import CheckpointError, UsageError


def test_it_computes_what_the_model_computes(head_checkpoint, features) -> None:
    with torch.inference_mode():
        expected = load_checkpoint(head_checkpoint)(torch.from_numpy(features))
    with open_session(head_checkpoint) as session:
        found = session.run(features)
        names = ("embedding", "attributes", "weights", "residual", "embedding_bound")
        assert session.info.outputs == names
    for name, array in found.items():
        assert np.array_equal(array, getattr(expected, name).numpy())
        assert array.dtype == np.float32


def test_a_baseline_has_an_embedding_only(tmp_path: Path, features) -> None:
    model = EmbeddingModel(ModelConfig("features", BaselineConfig(6, 5), None))
    save_checkpoint(model, tmp_path / "b.safetensors")
    with open_session(tmp_path / "b.safetensors") as session:
        assert session.info.outputs == ("embedding",)
        assert session.embed(features).shape == (7, 5)
        with pytest.raises(UsageError, match="no output weights"):
            session.run(features, ("weights",))


def test_the_authors_head_opens_as_it_is(golden: Path) -> None:
    recorded = np.load(golden / "official_head_io.npz")
    with open_session(golden / "official_head_state_dict.pt") as session:
        found = session.embed(recorded["features"])
    np.testing.assert_allclose(found, recorded["embedding"], rtol=1e-5, atol=1e-6)


def test_a_checkpoint_takes_no_provider(head_checkpoint) -> None:
    with pytest.raises(UsageError, match="takes no provider"):
        open_session(head_checkpoint, provider="cpu")


def test_threads_are_set_where_they_were_asked_for(head_checkpoint, features) -> None:
    before = torch.get_num_threads()
    try:
        with open_session(head_checkpoint, threads=2) as session:
            session.embed(features)
            assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_a_damaged_checkpoint_is_refused(head_checkpoint, tmp_path: Path) -> None:
    path = tmp_path / "head.safetensors"
    shutil.copy(head_checkpoint, path)
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(CheckpointError, match="whole safetensors"):
        open_session(path)

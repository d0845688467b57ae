"""Weights from a cache of the Hugging Face hub, offline: files are links into blobs."""

from __future__ import annotations

from pathlib import Path

import huggingface_hub
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from gsp_deploy.checkpoint import load_weights
from gsp_deploy.checkpoint.hub import hub_file
from gsp_deploy.errors import CheckpointError, UsageError

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and no network."""
    folder = tmp_path / "hub"
    folder.mkdir()
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(folder))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return folder


def cached(cache: Path, name: str, *files: str) -> dict[str, torch.Tensor]:
    """Lay files as the hub's client does; return the weights that they hold."""
    repository = cache / f"models--{name.replace('/', '--')}"
    snapshot, blobs = repository / "snapshots" / COMMIT, repository / "blobs"
    for folder in (snapshot, blobs, repository / "refs"):
        folder.mkdir(parents=True)
    (repository / "refs" / "main").write_text(COMMIT)
    state = nn.Linear(3, 2).state_dict()
    for index, file in enumerate(files):
        blob = blobs / f"{index:064x}"
        save_file(state, blob)
        (snapshot / file).symlink_to(Path("../../blobs") / blob.name)
    return state


def test_the_weights_load_through_the_link(cache: Path) -> None:
    state = cached(cache, "somebody/birds", "model.safetensors", "other.safetensors")
    file = hub_file("hf-hub:somebody/birds")
    assert file.is_symlink()
    model = nn.Linear(3, 2)
    load_weights(model, file)
    assert torch.equal(model.weight, state["weight"])


@pytest.mark.parametrize("ending", ["", "@main", f"@{COMMIT}", ":w.safetensors"])
def test_a_revision_and_a_file_can_be_named(ending: str, cache: Path) -> None:
    cached(cache, "somebody/birds", "w.safetensors")
    assert hub_file(f"hf-hub:somebody/birds{ending}").name == "w.safetensors"


def test_several_files_are_named_and_none_is_guessed(cache: Path) -> None:
    cached(cache, "somebody/birds", "b.safetensors", "a.safetensors")
    with pytest.raises(CheckpointError, match=r"has a\.safetensors, b\.safetensors; choose one as"):
        hub_file("hf-hub:somebody/birds")


def test_pickled_files_are_not_even_fetched(cache: Path) -> None:
    cached(cache, "somebody/birds", "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"has no \.safetensors; only those are read"):
        hub_file("hf-hub:somebody/birds")
    with pytest.raises(UsageError, match=r"expected a file ending in \.safetensors"):
        hub_file("hf-hub:somebody/birds:pytorch_model.bin")


def test_what_is_not_cached_is_one_line(cache: Path) -> None:
    with pytest.raises(CheckpointError, match="not in the cache, and HF_HUB_OFFLINE is set") as r:
        hub_file("hf-hub:somebody/fish")
    assert "\n" not in str(r.value)


@pytest.mark.parametrize("name", ["hf-hub:birds", "hf-hub:a/b/c", "hf-hub:a/b@", "hf-hub:"])
def test_other_forms_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match="expected hf-hub:owner/name, got"):
        hub_file(name)

"""PyTorch's sessions on a GPU: which device, and float32 in all its digits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from gsp_deploy import open_session
from gsp_deploy.errors import MissingCapabilityError
from gsp_deploy.runtime.torch_session import whole_float32


@pytest.mark.parametrize(
    ("there", "asked", "words"),
    [
        (0, "cuda", "device cuda was asked for, but PyTorch sees 0 CUDA devices here"),
        (1, "cuda:1", "device cuda:1 was asked for, but PyTorch sees 1 CUDA device here"),
        (2, "cuda:7", "device cuda:7 was asked for, but PyTorch sees 2 CUDA devices here"),
    ],
)
def test_a_device_that_is_not_there_is_told(
    head_checkpoint: Path, monkeypatch, there: int, asked: str, words: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: there)
    with pytest.raises(MissingCapabilityError, match=f"^{words}$"):
        open_session(head_checkpoint, asked)


@pytest.mark.parametrize("before", [True, False])
def test_cudnn_rounds_nothing_while_a_session_runs_and_may_again_afterwards(
    before: bool, monkeypatch
) -> None:
    cudnn = torch.backends.cudnn
    monkeypatch.setattr(cudnn, "allow_tf32", before)
    with whole_float32(torch.device("cuda:1")):
        assert not cudnn.allow_tf32
    assert cudnn.allow_tf32 == before
    with pytest.raises(ZeroDivisionError), whole_float32(torch.device("cuda")):
        1 / 0  # noqa: B018
    assert cudnn.allow_tf32 == before
    with whole_float32(torch.device("cpu")):
        assert cudnn.allow_tf32 == before


@pytest.mark.gpu
def test_a_gpu_embeds_as_the_cpu_does(tiny_checkpoint: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), np.uint8)
    with open_session(tiny_checkpoint, "cuda") as gpu, open_session(tiny_checkpoint) as cpu:
        np.testing.assert_allclose(gpu.embed(pixels), cpu.embed(pixels), atol=1e-5)

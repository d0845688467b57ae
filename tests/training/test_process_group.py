"""Which tensors the processes of a launch can exchange, with GPUs and without."""

from __future__ import annotations

import pytest
import torch
from torch import distributed
from torch.distributed.distributed_c10d import BackendConfig

from gsp_deploy.training.distributed import World, processes


@pytest.fixture
def joined(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The second of two processes joins the group and leaves it."""
    log: list[str] = []
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(distributed, "init_process_group", log.append)
    monkeypatch.setattr(distributed, "destroy_process_group", lambda: log.append("left"))
    monkeypatch.setattr(distributed, "get_rank", lambda: 1)
    monkeypatch.setattr(distributed, "get_world_size", lambda: 2)
    return log


@pytest.mark.parametrize(
    ("has_cuda", "expected"),
    [(True, {"cpu": "gloo", "cuda": "nccl"}), (False, {"cpu": "gloo", "cuda": "gloo"})],
)
def test_tensors_of_every_device_can_be_exchanged(
    joined: list[str], monkeypatch, has_cuda: bool, expected: dict[str, str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_cuda)
    with processes() as world:
        assert world == World(1, 2)
    backend, left = joined
    found = BackendConfig(backend).get_device_backend_map()
    assert {device: found[device] for device in expected} == expected
    assert left == "left"


def test_they_part_when_the_run_fails(joined: list[str]) -> None:
    with pytest.raises(ZeroDivisionError), processes():
        1 / 0  # noqa: B018
    assert joined[-1] == "left"


def test_one_process_joins_nothing(joined: list[str], monkeypatch) -> None:
    monkeypatch.delenv("WORLD_SIZE")
    with processes() as world:
        assert world == World(0, 1)
    assert joined == []

"""Train a model with a GSP layer on two processes, wrapped, and compare it with one process.

Usage: wrapped_layer.py STORE; the file STORE is where the processes meet. Prints what it wrapped.
"""

from __future__ import annotations

import sys

import torch
from torch import Tensor, distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from torch.nn.parallel import DistributedDataParallel

from gsp_deploy import GeneralizedSumPooling, GSPConfig

RANKS = 2
WRAPPERS = ("ddp", "fsdp", "fully_shard")


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Conv2d(3, 8, 3)
        self.pool = GeneralizedSumPooling(GSPConfig(8, 6, 4))
        self.neck = nn.Linear(6, 5)

    def forward(self, images: Tensor) -> Tensor:
        return self.neck(self.pool(self.body(images)).embedding)


def network() -> Network:
    torch.manual_seed(0)
    return Network()


def step(model: nn.Module, images: Tensor) -> None:
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    model(images).square().mean().backward()
    optimiser.step()


def wrapped(wrapper: str, model: Network) -> nn.Module:
    if wrapper == "ddp":
        return DistributedDataParallel(model)
    if wrapper == "fsdp":
        return FullyShardedDataParallel(model, device_id=torch.device("cpu"), use_orig_params=True)
    mesh = init_device_mesh("cpu", (RANKS,))
    fully_shard(model.pool, mesh=mesh)
    return fully_shard(model, mesh=mesh)


def weights_of(wrapper: str, model: nn.Module) -> dict[str, Tensor]:
    if wrapper == "fsdp":
        with FullyShardedDataParallel.summon_full_params(model):
            return {name: value.clone() for name, value in model.module.state_dict().items()}
    state = model.module.state_dict() if wrapper == "ddp" else model.state_dict()
    return {
        name: value.full_tensor() if hasattr(value, "full_tensor") else value
        for name, value in state.items()
    }


def work(rank: int, store: str) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"file://{store}", rank=rank, world_size=RANKS
    )
    images = torch.rand(4, 3, 9, 9, generator=torch.Generator().manual_seed(3))
    alone = network()
    step(alone, images)
    for wrapper in WRAPPERS:
        model = wrapped(wrapper, network())
        step(model, images[rank * 2 : rank * 2 + 2])
        torch.testing.assert_close(weights_of(wrapper, model), dict(alone.state_dict()))
        if rank == 0:
            print(wrapper)
    distributed.destroy_process_group()


if __name__ == "__main__":
    torch.multiprocessing.spawn(work, (sys.argv[1],), nprocs=RANKS)

"""Train with several processes: each takes a share of the batch, and the losses see all of it.

`accelerate launch` or `torchrun` starts the processes and sets the environment variables that this
module reads. Every process gathers all embeddings and computes the same loss on the whole batch.
Gradients flow only into its own share, so the sum of the processes' gradients is the gradient of
one process with the whole batch. (The mean, as `DistributedDataParallel` computes it, would be too
small by a factor of their number.)
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, distributed, nn

from gsp_deploy.errors import UsageError


@dataclass(frozen=True)
class World:
    """This process's number and the number of processes.

    >>> World(rank=1, size=4).share_of(32)
    slice(8, 16, None)
    """

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process validates and writes files."""
        return self.rank == 0

    def share_of(self, batch_size: int) -> slice:
        """Return this process's part of a batch.

        Raises:
            UsageError: the batch cannot be shared evenly.
        """
        if batch_size % self.size:
            raise UsageError(
                f"sampler.batch_size must be a multiple of the {self.size} processes, "
                f"got {batch_size}"
            )
        share = batch_size // self.size
        return slice(self.rank * share, (self.rank + 1) * share)


@contextmanager
def processes() -> Iterator[World]:
    """Join the other processes of the launch, if there are any, and leave them at the end."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield World()
        return
    # Use both with GPUs: a recipe may still ask for the CPU, and objects are sent through gloo.
    distributed.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield World(distributed.get_rank(), distributed.get_world_size())
    finally:
        distributed.destroy_process_group()


def gather(tensor: Tensor, world: World) -> Tensor:
    """Concatenate the processes' tensors `(b, ...)` in order; gradients reach only our own part."""
    if world.size == 1:
        return tensor
    parts = [torch.empty_like(tensor) for _ in range(world.size)]
    distributed.all_gather(parts, tensor.detach().contiguous())
    parts[world.rank] = tensor
    return torch.cat(parts)


def sum_gradients(parameters: Iterable[nn.Parameter], world: World) -> None:
    """Replace each gradient by its sum over the processes."""
    if world.size == 1:
        return
    held = [p for p in parameters if p.requires_grad]
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in held]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    distributed.all_reduce(flat)
    for parameter, part in zip(held, flat.split([p.numel() for p in held]), strict=True):
        parameter.grad = part.view_as(parameter).clone()


def average_gradients(parameters: Iterable[nn.Parameter], world: World) -> None:
    """Replace each gradient by its mean, for losses that every process computes in full."""
    held = list(parameters)
    sum_gradients(held, world)
    if world.size > 1:
        for parameter in held:
            if parameter.grad is not None:
                parameter.grad /= world.size


def synchronise(module: nn.Module, world: World) -> None:
    """Give every process the parameters and buffers of the first."""
    if world.size > 1:
        for tensor in module.state_dict().values():
            distributed.broadcast(tensor, src=0)


def any_process(flag: bool, world: World, device: torch.device) -> bool:
    """Return whether the flag is true in any process."""
    if world.size == 1:
        return flag
    vote = torch.tensor(int(flag), device=device)
    distributed.all_reduce(vote, op=distributed.ReduceOp.MAX)
    return bool(vote.item())


def from_leader(value: Any, world: World) -> Any:
    """Return the first process's value in every process; it must be picklable."""
    if world.size == 1:
        return value
    box = [value]
    distributed.broadcast_object_list(box, src=0)
    return box[0]

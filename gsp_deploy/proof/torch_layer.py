"""The layer on the device, eager, compiled and exported, against the loop that autograd records."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F

from gsp_deploy.config import GSPConfig, Solver
from gsp_deploy.errors import GateError, MissingCapabilityError
from gsp_deploy.layers import GeneralizedSumPooling
from gsp_deploy.proof.document import Finding

if TYPE_CHECKING:
    from gsp_deploy.proof.run import ProofSettings

_STEPS = 400  # of the loop: converged at the default entropy weight
_FORWARD, _BACKWARD = 1e-4, 1e-3  # relative to the largest value
_RUNS = 20


def eager(settings: ProofSettings, folder: Path) -> Finding:
    """Compare values and gradients with the unrolled loop, and time both."""
    layer, features = _case(settings)
    return _compared(layer, layer, features)


def compiled(settings: ProofSettings, folder: Path) -> Finding:
    """Do the same with `torch.compile`."""
    layer, features = _case(settings)
    backend = "aot_eager" if settings.is_rehearsal else "inductor"
    return _compared(layer, torch.compile(layer, backend=backend), features)


def exported(settings: ProofSettings, folder: Path) -> Finding:
    """Run the program of `torch.export` and compare it with the layer.

    The solver is `certified`: on a CPU, the others stop early by the values, which no exported
    program can do.
    """
    layer, features = _case(settings, "certified")
    layer.eval()
    program = torch.export.export(layer, (features,)).module()
    with torch.no_grad():
        error = _difference(program(features).embedding, layer(features).embedding)
    _hold("the exported program's embedding", error, _FORWARD)
    return Finding("", "passed", f"the exported program differs by {error:.1e}")


def unrolled(layer: GeneralizedSumPooling, features: Tensor) -> Tensor:
    """Return the embedding by the paper's iteration, whose steps autograd records."""
    config = layer.config
    f = torch.einsum("dc,bcn->bdn", layer.embed.weight, features.flatten(2))
    if layer.embed.bias is not None:
        f = f + layer.embed.bias[:, None]
    points = (f / f.norm(dim=1, keepdim=True).clamp(min=1)).transpose(1, 2)
    anchors = layer.prototypes / layer.prototypes.norm(dim=1, keepdim=True).clamp(min=1)
    costs = torch.cdist(anchors.expand(len(f), -1, -1), points)
    mass = torch.exp(-config.entropy_weight * costs).sum(dim=1)
    ratio, share = config.transport_ratio, 1 / f.shape[2]
    scale = torch.full_like(mass[:, :1], ratio)
    residual = share / (1 + scale * mass)
    for _ in range(_STEPS):
        scale = ratio / (residual * mass).sum(dim=1, keepdim=True)
        residual = share / (1 + scale * mass)
    weights = (1 - residual / share) / ratio
    return F.normalize((f * weights[:, None]).mean(dim=2), dim=1)


def _case(
    settings: ProofSettings, solver: Solver = "newton"
) -> tuple[GeneralizedSumPooling, Tensor]:
    if settings.device == "cuda" and not torch.cuda.is_available():
        raise MissingCapabilityError("this PyTorch sees no CUDA device")
    torch.manual_seed(0)
    channels, dim, prototypes, batch = (64, 16, 8, 2) if settings.is_rehearsal else (
        2048, 512, 64, 32)  # fmt: skip
    config = GSPConfig(channels, dim, prototypes, solver=solver)
    layer = GeneralizedSumPooling(config).to(settings.device)
    features = torch.rand(batch, channels, 7, 7, device=settings.device)
    return layer, features


def _compared(
    layer: GeneralizedSumPooling, ours: Callable[[Tensor], Any], features: Tensor
) -> Finding:
    def by_layer(x: Tensor) -> Tensor:
        embedding: Tensor = ours(x).embedding
        return embedding

    def by_loop(x: Tensor) -> Tensor:
        return unrolled(layer, x)

    found, expected = (_gradient(each, features) for each in (by_layer, by_loop))
    forward = _difference(found[0], expected[0])
    backward = _difference(found[1], expected[1])
    _hold("the embedding", forward, _FORWARD)
    _hold("the gradient", backward, _BACKWARD)
    rows = [
        {"form": name, "milliseconds, forward and backward": _milliseconds(each, features)}
        for name, each in (("this layer", by_layer), (f"{_STEPS} recorded steps", by_loop))
    ]
    detail = f"embedding within {forward:.1e}, gradient within {backward:.1e} of the recorded loop"
    return Finding("", "passed", detail, table=rows)


def _gradient(pool: Callable[[Tensor], Tensor], features: Tensor) -> tuple[Tensor, Tensor]:
    x = features.clone().requires_grad_()
    embedding = pool(x)
    (gradient,) = torch.autograd.grad(embedding[:, ::2].sum(), x)
    return embedding.detach(), gradient


def _difference(found: Tensor, expected: Tensor) -> float:
    """Return the largest difference relative to the largest expected value."""
    return float((found - expected).abs().max() / expected.abs().max())


def _hold(what: str, error: float, most: float) -> None:
    if not error <= most:  # also true for NaN
        raise GateError(f"{what} is off by {error:.1e}, more than {most:.0e}")


def _milliseconds(pool: Callable[[Tensor], Tensor], features: Tensor) -> float:
    """Return the median time of a forward and a backward pass."""
    times = []
    for _ in range(_RUNS):
        _synchronise(features)
        start = time.perf_counter()
        _gradient(pool, features)
        _synchronise(features)
        times.append(time.perf_counter() - start)
    return sorted(times)[_RUNS // 2] * 1e3


def _synchronise(features: Tensor) -> None:
    if features.is_cuda:
        torch.cuda.synchronize()

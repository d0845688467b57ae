"""Compare the gradient after few iterations with the authors' one. Prints a Markdown table.

Both take the implicit-function theorem at the scale beta that K iterations reach. With
s = sigmoid(beta + l), the derivative of mean(s) divides by sum s (1 - s). The authors write it as
N (1 - mu) - sum (1 - s)^2, which is the same at the solution only. The reference is the derivative
of the K iterations themselves (autograd through the loop).

    python benchmarks/few_iterations.py
"""

from __future__ import annotations

import torch
from torch import Tensor

from gsp_deploy.layers.transport import TransportProblem, mixing_weights, solve_log_scale

RATIO = 0.3
ENTROPY = (5.0, 20.0)
ITERATIONS = (1, 2, 3, 5, 10, 20, 50, 100)
DRAWS, LOCATIONS, PROTOTYPES, DIM = 64, 49, 16, 32


def log_mass(entropy: float) -> Tensor:
    """Return l `(B, N)` of normal features and prototypes on the unit sphere."""
    generator = torch.Generator().manual_seed(0)
    draw = torch.randn(DRAWS, LOCATIONS, DIM, generator=generator, dtype=torch.float64)
    points = torch.randn(PROTOTYPES, DIM, generator=generator, dtype=torch.float64)
    cosines = torch.nn.functional.normalize(draw, dim=2) @ torch.nn.functional.normalize(points).T
    return torch.logsumexp(-entropy * (2 - 2 * cosines), dim=2)


def ours(mass: Tensor, weight: Tensor, problem: TransportProblem) -> Tensor:
    """Return the layer's gradient of sum(weight * w) in l."""
    mass = mass.clone().requires_grad_()
    (mixing_weights(mass, problem) * weight).sum().backward()
    return mass.grad


def authors(mass: Tensor, weight: Tensor, problem: TransportProblem) -> Tensor:
    """Return the authors' formula at the same scale."""
    kept = torch.sigmoid(solve_log_scale(mass, problem) + mass)
    slope, left = kept * (1 - kept), 1 - kept
    sum_of_slopes = LOCATIONS * (1 - RATIO) - left.square().sum(1, keepdim=True)
    mean = (slope * weight).sum(1, keepdim=True) / sum_of_slopes
    return slope * (weight - mean) / RATIO


def unrolled(mass: Tensor, weight: Tensor, steps: int) -> Tensor:
    """Return the derivative of the iterations themselves."""
    mass = mass.clone().requires_grad_()
    scale = torch.full_like(mass[:, :1], RATIO).log()
    for _ in range(steps + 1):
        used = scale
        kept = torch.sigmoid(used + mass)
        scale = used + torch.log(RATIO / kept.mean(1, keepdim=True))
    (kept / RATIO * weight).sum().backward()
    return mass.grad


def main() -> None:
    """Print how far each gradient is from the iterations' own, relative to it."""
    print("| gamma | iterations | gradient here | the authors' formula |\n|---|---|---|---|")
    for entropy in ENTROPY:
        mass = log_mass(entropy)
        weight = torch.randn(mass.shape, generator=torch.Generator().manual_seed(1)).double()
        for steps in ITERATIONS:
            problem = TransportProblem(RATIO, "fixed-point", steps, RATIO)
            true = unrolled(mass, weight, steps)
            errors = [
                ((found - true).norm() / true.norm()).item()
                for found in (ours(mass, weight, problem), authors(mass, weight, problem))
            ]
            print(f"| {entropy:g} | {steps} | {errors[0]:.1e} | {errors[1]:.1e} |")


if __name__ == "__main__":
    main()

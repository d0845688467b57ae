"""Run the Triton kernel in Triton's interpreter and print its worst errors against float64.

In a process of its own: TRITON_INTERPRET has to be set before a kernel is defined.
"""

from __future__ import annotations

import json
import os

os.environ["TRITON_INTERPRET"] = "1"

import numpy as np
import torch

from gsp_deploy.engine.aot.compiling import PoolingSizes, kernel_constants
from gsp_deploy.engine.aot.kernel import pool_images
from gsp_deploy.layers.transport import TransportProblem, mixing_weights
from gsp_deploy.pooling_node import PoolingAttributes
from gsp_deploy.reference import exact_weights, log_mass_of

TYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
# locations, D, M, C; pooling, solver, steps, mu, gamma, t(0), p, normalised; type
CASES = [
    (1, 16, 1, 16, "gap", "newton", 4, 0.3, 5.0, 0.0, 3.0, 1, "fp32"),
    (33, 20, 3, 20, "gap", "newton", 8, 0.3, 5.0, 0.0, 3.0, 1, "fp32"),
    (49, 40, 70, 40, "gap", "newton", 8, 0.5, 50.0, 0.0, 3.0, 0, "fp16"),
    (50, 24, 33, 24, "gap", "fixed-point", 5, 0.8, 5.0, 0.0, 3.0, 1, "bf16"),
    (49, 24, 5, 35, "gmp", "newton", 8, 0.3, 0.1, 0.0, 3.0, 0, "fp32"),
    (49, 24, 5, 35, "gem", "fixed-point", 7, 0.3, 5.0, 1.0, 2.5, 0, "fp16"),
    (20, 16, 4, 16, "gem", "newton", 7, 0.3, 5.0, 0.0, 30.0, 0, "fp32"),
    (20, 16, 4, 16, "gem", "newton", 7, 0.3, 5.0, 0.0, -2.0, 0, "fp32"),
]


def draw(case: tuple) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return embeddings in and outside of the unit ball, prototypes inside, and features."""
    locations, dim, count, channels = case[:4]
    source = np.random.default_rng(dim)
    embeddings = source.standard_normal((2, dim, locations)) * 1.3 / np.sqrt(dim)
    prototypes = source.standard_normal((count, dim)) / np.sqrt(dim)
    prototypes /= np.maximum(1, np.linalg.norm(prototypes, axis=1, keepdims=True))
    features = source.standard_normal((2, channels, locations))
    kind = TYPES[case[-1]]
    return (
        torch.from_numpy(embeddings).to(kind),
        torch.from_numpy(prototypes).float(),
        torch.from_numpy(features).to(kind),
    )


def expected(case: tuple, embeddings, prototypes, features) -> dict[str, np.ndarray]:
    """Return in float64 what the kernel should write for its own, rounded inputs."""
    pooling, solver, steps, ratio, gamma, start, power, normalize = case[4:12]
    f, p, x = (t.double().numpy() for t in (embeddings, prototypes, features))
    log_mass = log_mass_of(f, p, gamma)
    weights = exact_weights(log_mass, ratio)
    if solver == "fixed-point":
        problem = TransportProblem(ratio, solver, steps, start or ratio)
        weights = mixing_weights(torch.from_numpy(log_mass), problem).numpy()
    weighted = (f if pooling == "gap" else x) * weights[:, None, :]
    if pooling == "gap":
        pooled = weighted.mean(2)
    elif pooling == "gmp":
        pooled = weighted.max(2)
    else:
        pooled = (np.maximum(weighted, 1e-6) ** power).mean(2) ** (1 / power)
    if normalize:
        pooled /= np.linalg.norm(pooled, axis=1, keepdims=True)
    inside = f / np.maximum(1, np.linalg.norm(f, axis=1, keepdims=True))
    cost = np.linalg.norm(p[None, :, :, None] - inside[:, None], axis=2)
    plan = np.exp(-gamma * cost - log_mass[:, None]) * weights[:, None]
    attributes = plan.sum(2) / weights.sum(1, keepdims=True)
    return {"pooled": pooled, "weights": weights, "attributes": attributes}


def errors(case: tuple) -> dict[str, float]:
    """Return the worst error of each output, relative to its largest value."""
    locations, dim, count, channels = case[:4]
    pooling, solver, steps, ratio, gamma, start, power, normalize = case[4:12]
    settings = PoolingAttributes(
        pooling, solver, steps, ratio, gamma, start, power, normalize, 1, 1
    )
    inputs = draw(case)
    constants = kernel_constants(settings, PoolingSizes(dim, count, channels, 64, case[-1]))
    found = {
        "pooled": torch.full((2, channels), float("nan")),
        "weights": torch.full((2, locations), float("nan")),
        "attributes": torch.full((2, count), float("nan")),
    }
    embeddings, prototypes, features = inputs
    pool_images[(2,)](
        embeddings.contiguous(),
        prototypes.contiguous(),
        None if pooling == "gap" else features.contiguous(),
        locations,
        *found.values(),
        **constants,
    )
    wanted = expected(case, *inputs)
    return {
        name: float(np.abs(found[name].numpy() - wanted[name]).max() / np.abs(wanted[name]).max())
        for name in wanted
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    print("errors:" + json.dumps([errors(case) for case in CASES]))

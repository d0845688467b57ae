"""The kernel's own source, run on the CPU, against the vectors of the authors' layers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from .building import needs_compiler
from .cases import Case, Inputs, run_cases

pytestmark = needs_compiler

GOLDEN = Path(__file__).parents[2] / "golden"
POOLINGS = {"gap": "gap", "gmp": "gmp", "gmeanp": "gem"}


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def inside_unit_ball(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(1, np.linalg.norm(vectors, axis=1, keepdims=True))


@pytest.mark.parametrize("layout", ["channels-first", "channels-last"])
@pytest.mark.parametrize("plan", ["block", "cluster"])
def test_the_authors_pytorch_layer(program: Path, plan: str, layout: str) -> None:
    for path in sorted(GOLDEN.glob("pytorch_*.npz")):
        vectors = np.load(path)
        features = vectors["features"].reshape(*vectors["features"].shape[:2], -1)
        weight, bias = vectors["embed_weight"], vectors["embed_bias"]
        embeddings = np.einsum("dc,bcn->bdn", weight, features) + bias[:, None]
        pooling = POOLINGS[str(vectors["pooling"])]
        case = Case(
            *(len(features), features.shape[2], len(weight), len(vectors["prototypes"])),
            channels=features.shape[1],
            ratio=float(vectors["transport_ratio"]),
            gamma=float(vectors["entropy_weight"]),
            solver="fixed-point",
            iterations=int(vectors["iterations"]),
            pooling=pooling,
            power=3.0,
            normalize=pooling == "gap",
            layout=layout,
            plan=plan,
        )
        prototypes = inside_unit_ball(vectors["prototypes"]).astype(np.float32)
        inputs = Inputs(embeddings.astype(np.float32), features, prototypes)
        (found,) = run_cases(program, [(case, inputs)])
        embedding = found.pooled if pooling == "gap" else unit(found.pooled @ weight.T + bias)
        told = path.name
        np.testing.assert_allclose(embedding, vectors["embedding"], atol=2e-5, err_msg=told)
        np.testing.assert_allclose(found.attributes, vectors["attributes"], atol=2e-5, err_msg=told)
        expected = vectors["weights"].reshape(found.weights.shape)
        np.testing.assert_allclose(found.weights, expected, atol=5e-5, err_msg=told)


@pytest.mark.parametrize("name", ["gamma5_k100", "gamma1_k10"])
def test_the_authors_tensorflow_layer(program: Path, name: str) -> None:
    """Channels last, unnormalised, and started from t = 1: ten steps do not forget the start."""
    vectors = np.load(GOLDEN / "tensorflow_layer.npz")
    pixels, kernel = vectors[f"{name}/x"], vectors[f"{name}/conv_kernel"][0, 0]
    features = pixels.reshape(len(pixels), -1, pixels.shape[3]).transpose(0, 2, 1)
    embeddings = np.einsum("cd,bcn->bdn", kernel, features).astype(np.float32)
    case = Case(
        *(len(features), features.shape[2], kernel.shape[1], len(vectors[f"{name}/support"])),
        ratio=float(vectors[f"{name}/mu"]),
        gamma=float(vectors[f"{name}/gamma"]),
        solver="fixed-point",
        iterations=int(vectors[f"{name}/iters"]),
        initial_scale=1.0,
        layout="channels-last",
    )
    prototypes = inside_unit_ball(vectors[f"{name}/support"]).astype(np.float32)
    (found,) = run_cases(program, [(case, Inputs(embeddings, features, prototypes))])
    expected = vectors[f"{name}/y_train"]
    np.testing.assert_allclose(found.pooled, expected[:, : case.embedding_dim], atol=2e-5)
    np.testing.assert_allclose(found.attributes, expected[:, case.embedding_dim :], atol=2e-5)

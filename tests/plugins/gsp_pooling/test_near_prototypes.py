"""Costs where they used to cancel: locations on prototypes and next to them, in every plan."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from .building import ONLY_FLOAT16, PLAIN, Fault, build, needs_compiler
from .cases import LAYOUTS, TYPES, Case, Inputs, expected_outputs, run_cases

pytestmark = needs_compiler

GAMMAS = (5.0, 20.0, 50.0, 100.0)
# Share of the locations that are near a prototype, and their cosine to it.
NEAR = ((0.05, 1.0), (0.8, 1.0), (0.5, 0.999), (0.8, 0.9), (0.5, 0.3))
POINTS = {5.0: 31, 20.0: 127, 50.0: 255, 100.0: 511}
# Of the weights' spread.
TOLERANCE = 1e-4
NO_DIFFERENCES = Fault("kernels/distances.cuh", "squares[slot] <= limit", "false")

BASE = Case(1, 49, 64, 32, 1, ratio=0.3, solver="certified", iterations=2, residual=True,
            bound=True, normalize=True)  # fmt: skip


def unit(vectors: np.ndarray, axis: int) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=axis, keepdims=True)


def near_prototypes(case: Case, share: float, cosine: float, length: float) -> Inputs:
    """Draw prototypes of length 1, and embeddings of which a share is at a cosine to one."""
    draw = np.random.default_rng(case.seed)
    prototypes = unit(draw.standard_normal((case.prototypes, case.embedding_dim)), 1)
    shape = (case.batch, case.embedding_dim, case.locations)
    away = unit(draw.standard_normal(shape), 1)
    chosen = draw.integers(case.prototypes, size=(case.batch, case.locations))
    along = prototypes[chosen].transpose(0, 2, 1)
    across = unit(away - along * (along * away).sum(axis=1, keepdims=True), 1)
    near = cosine * along + np.sqrt(1 - cosine**2) * across
    is_near = draw.random((case.batch, 1, case.locations)) < share
    embeddings = (length * np.where(is_near, near, away)).astype(TYPES[case.input_type])
    features = np.zeros((case.batch, case.channels, case.locations), embeddings.dtype)
    return Inputs(embeddings, features, prototypes.astype(np.float32))


def worst_over_spread(program: Path, cases: list[tuple[Case, Inputs]]) -> float:
    """Return the worst weight error over the spread of its image's weights."""
    worst = 0.0
    for (case, inputs), found in zip(cases, run_cases(program, cases), strict=True):
        expected = expected_outputs(case, inputs)
        error = np.abs(found.weights - expected.weights).max() / np.ptp(expected.weights)
        worst = max(worst, float(error))
        np.testing.assert_allclose(found.pooled, expected.pooled, atol=2e-5, err_msg=str(case))
        np.testing.assert_allclose(found.attributes, expected.attributes, atol=2e-5)
    return worst


def cases_of(base: Case) -> list[tuple[Case, Inputs]]:
    grid = itertools.product(GAMMAS, NEAR, (1.0, 1.7))
    cases = []
    for seed, (gamma, (share, cosine), length) in enumerate(grid):
        case = replace(base, gamma=gamma, grid_points=POINTS[gamma], seed=seed)
        cases.append((case, near_prototypes(case, share, cosine, length)))
    return cases


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("input_type", TYPES)
def test_weights_keep_the_tolerance(program: Path, input_type: str, layout: str) -> None:
    for plan in ("block", "split"):
        base = replace(BASE, input_type=input_type, layout=layout, plan=plan)
        assert worst_over_spread(program, cases_of(base)) <= TOLERANCE


@pytest.mark.parametrize("input_type", TYPES)
def test_weights_keep_the_tolerance_in_a_cluster(program: Path, input_type: str) -> None:
    cases = cases_of(replace(BASE, input_type=input_type, plan="cluster"))
    assert worst_over_spread(program, cases[::5]) <= TOLERANCE


def test_weights_keep_the_tolerance_without_matrix_units(scalar_program: Path) -> None:
    cases = cases_of(replace(BASE, input_type="bfloat16"))
    assert worst_over_spread(scalar_program, cases[::3]) <= TOLERANCE


def test_prototypes_of_several_tiles(program: Path) -> None:
    cases = cases_of(replace(BASE, prototypes=130, locations=70, input_type="float16"))
    assert worst_over_spread(program, cases[::4]) <= TOLERANCE


def test_without_the_differences_the_tolerance_is_broken(tmp_path: Path) -> None:
    program = build(tmp_path, PLAIN, (*ONLY_FLOAT16, NO_DIFFERENCES))
    cases = cases_of(replace(BASE, input_type="float16"))
    on_prototypes = [pair for pair in cases if pair[0].gamma >= 50][:4]
    found = run_cases(program, on_prototypes)
    errors = [
        np.abs(answer.weights - expected_outputs(*pair).weights).max()
        / np.ptp(expected_outputs(*pair).weights)
        for pair, answer in zip(on_prototypes, found, strict=True)
    ]
    assert max(errors) > TOLERANCE

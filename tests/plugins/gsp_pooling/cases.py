"""Cases for the kernel on the CPU: what is asked, how it is run, and what it should have said.

`emulation/pool_cases.cpp` is the other end. The expectation is computed in float64 from the
inputs as the kernel gets them (rounded to their type), apart from the kernel's formulas where that
is possible.
"""

from __future__ import annotations

import os
import struct
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import ml_dtypes
import numpy as np

from gsp_deploy.reference import exact_weights, log_mass_of

TYPES = {"float32": np.float32, "float16": np.float16, "bfloat16": ml_dtypes.bfloat16}
LAYOUTS = ("channels-first", "channels-last")
SOLVERS = ("fixed-point", "newton", "certified")
POOLINGS = ("gap", "gmp", "gem")
PLANS = ("auto", "block", "cluster", "split")


@dataclass(frozen=True)
class Case:
    """One call of the launcher. Inputs are drawn from `seed` unless they are given."""

    batch: int = 2
    locations: int = 49
    embedding_dim: int = 24
    prototypes: int = 5
    channels: int = 16
    ratio: float = 0.3
    gamma: float = 5.0
    solver: str = "newton"
    iterations: int = 20
    grid_points: int = 0
    initial_scale: float = 0.0
    pooling: str = "gap"
    power: float = 3.0
    normalize: bool = False
    input_type: str = "float32"
    output_type: str = "float32"
    layout: str = "channels-first"
    plan: str = "block"
    weights: bool = True
    attributes: bool = True
    residual: bool = False
    bound: bool = False
    misaligned: int = 0  # elements between an aligned address and every array; -1 is half of one
    seed: int = 0
    scale: float = 0.7

    def header(self) -> bytes:
        """Return the fields in the order of `Header` in pool_cases.cpp."""
        return struct.pack(
            "<5i2f3ififiiiiiiiiii",
            *(self.batch, self.locations, self.embedding_dim, self.prototypes, self.channels),
            *(self.ratio, self.gamma, SOLVERS.index(self.solver), self.iterations),
            *(self.grid_points, self.initial_scale),
            *(POOLINGS.index(self.pooling), self.power, self.normalize),
            *(list(TYPES).index(self.input_type), list(TYPES).index(self.output_type)),
            *(LAYOUTS.index(self.layout), PLANS.index(self.plan)),
            *(self.weights, self.attributes, self.residual, self.bound, self.misaligned),
        )


@dataclass(frozen=True)
class Inputs:
    """Embeddings `(B, D, N)`, features `(B, C, N)`, both of the input type; prototypes `(M, D)`."""

    embeddings: np.ndarray
    features: np.ndarray
    prototypes: np.ndarray


@dataclass(frozen=True)
class Outputs:
    """What the launcher wrote, or its error; float64, None where it was not asked for."""

    error: int
    problem: str = ""
    pooled: np.ndarray | None = None
    weights: np.ndarray | None = None
    attributes: np.ndarray | None = None
    residual: np.ndarray | None = None
    bound: np.ndarray | None = None


def draw_inputs(case: Case) -> Inputs:
    """Draw embeddings inside and outside the unit ball, and prototypes inside it."""
    draw = np.random.default_rng(case.seed)
    kind = TYPES[case.input_type]
    size = case.scale / np.sqrt(case.embedding_dim)
    lengths = draw.uniform(0.3, 3, (case.batch, 1, case.locations))
    embeddings = draw.standard_normal((case.batch, case.embedding_dim, case.locations))
    features = draw.standard_normal((case.batch, case.channels, case.locations))
    prototypes = 1.5 * size * draw.standard_normal((case.prototypes, case.embedding_dim))
    prototypes /= np.maximum(1, np.linalg.norm(prototypes, axis=1, keepdims=True))
    return Inputs(
        (size * lengths * embeddings).astype(kind),
        features.astype(kind),
        prototypes.astype(np.float32),
    )


def run_cases(
    program: Path,
    cases: Sequence[tuple[Case, Inputs]],
    environment: Mapping[str, str] | None = None,
) -> list[Outputs]:
    """Run the cases in one process.

    Raises:
        subprocess.CalledProcessError: the program failed: a sanitizer's report is in `stderr`.
    """
    reader = _Reader(_run(program, cases, environment or {}).stdout)
    answers = [_answer(reader, case) for case, _ in cases]
    assert reader.is_at_end()
    return answers


@dataclass(frozen=True)
class Launch:
    blocks: int
    threads: int
    cluster: int
    shared: int


def launches_of(program: Path, case: Case, capability: int = 90) -> list[Launch]:
    """Return the shapes of the kernel launches that a case takes on such a device."""
    environment = {
        "EMULATION_TRACE": "1",
        "EMULATION_SHAPES_ONLY": "1",
        "EMULATION_CAPABILITY": str(capability),
    }
    done = _run(program, [(case, draw_inputs(case))], environment)
    lines = [line.split() for line in done.stderr.decode().splitlines()]
    return [Launch(*map(int, words[2::2])) for words in lines if words[0] == "launch:"]


def expected_outputs(case: Case, inputs: Inputs) -> Outputs:
    """Compute the case in float64: the root by bisection, or the paper's iteration as it stands."""
    embeddings = inputs.embeddings.astype(np.float64)
    log_mass = log_mass_of(embeddings, inputs.prototypes, case.gamma)
    weights = _weights(log_mass, case)
    pooled = _pooled(embeddings if case.pooling == "gap" else inputs.features, weights, case)
    if case.normalize:
        pooled /= np.maximum(1e-12, np.linalg.norm(pooled, axis=1, keepdims=True))
    return Outputs(
        0, "", pooled, weights, _attributes(embeddings, inputs.prototypes, weights, case)
    )


def _run(
    program: Path, cases: Sequence[tuple[Case, Inputs]], environment: Mapping[str, str]
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [program],
        input=b"".join(_request(case, inputs) for case, inputs in cases),
        capture_output=True,
        check=True,
        env={**os.environ, **environment},
    )


def _request(case: Case, inputs: Inputs) -> bytes:
    features = [] if case.pooling == "gap" else [inputs.features]
    maps = [_as_laid_out(array, case.layout) for array in (inputs.embeddings, *features)]
    return b"".join([case.header(), *(array.tobytes() for array in maps),
                     inputs.prototypes.tobytes()])  # fmt: skip


def _as_laid_out(array: np.ndarray, layout: str) -> np.ndarray:
    return array if layout == "channels-first" else np.ascontiguousarray(array.transpose(0, 2, 1))


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.place = 0

    def take(self, shape: tuple[int, ...], kind: type) -> np.ndarray:
        count = int(np.prod(shape))
        array = np.frombuffer(self.data, kind, count, self.place).reshape(shape)
        self.place += array.nbytes
        return array

    def is_at_end(self) -> bool:
        return self.place == len(self.data)


def _answer(reader: _Reader, case: Case) -> Outputs:
    error = int(reader.take((1,), np.int32)[0])
    if error:
        length = int(reader.take((1,), np.int32)[0])
        return Outputs(error, reader.take((length,), np.uint8).tobytes().decode())
    kind = TYPES[case.output_type]
    channels = case.embedding_dim if case.pooling == "gap" else case.channels
    sizes = (channels, case.weights * case.locations, case.attributes * case.prototypes)
    arrays = [
        reader.take((case.batch, size), kind).astype(np.float64) if size else None for size in sizes
    ]
    scalars = [
        reader.take((case.batch,), np.float32).astype(np.float64) if wanted else None
        for wanted in (case.residual, case.bound)
    ]
    return Outputs(0, "", *arrays, *scalars)


def _weights(log_mass: np.ndarray, case: Case) -> np.ndarray:
    if case.ratio == 1 or case.solver != "fixed-point":
        return exact_weights(log_mass, np.float32(case.ratio))
    ratio = float(np.float32(case.ratio))
    share = 1 / case.locations
    scale = np.full((case.batch, 1), case.initial_scale or ratio)
    mass = np.exp(log_mass)
    for _ in range(case.iterations):
        residual = share / (1 + scale * mass)
        scale = ratio / (residual * mass).sum(axis=1, keepdims=True)
    kept = scale * mass / (1 + scale * mass)
    return kept / ratio


def _pooled(maps: np.ndarray, weights: np.ndarray, case: Case) -> np.ndarray:
    weighted = maps.astype(np.float64) * weights[:, None, :]
    if case.pooling == "gap":
        return weighted.mean(axis=2)
    if case.pooling == "gmp":
        return weighted.max(axis=2)
    floored = np.maximum(weighted, 1e-6)
    return (floored**case.power).mean(axis=2) ** (1 / case.power)


def _attributes(
    embeddings: np.ndarray, prototypes: np.ndarray, weights: np.ndarray, case: Case
) -> np.ndarray:
    points = embeddings / np.maximum(1, np.linalg.norm(embeddings, axis=1, keepdims=True))
    anchors = prototypes.astype(np.float64)
    anchors /= np.maximum(1, np.linalg.norm(anchors, axis=1, keepdims=True))
    costs = np.stack(
        [np.linalg.norm(points - anchor[:, None], axis=1) for anchor in anchors], axis=1
    )
    plan = np.exp(-case.gamma * (costs - costs.min(axis=1, keepdims=True)))
    plan /= plan.sum(axis=1, keepdims=True)
    return (plan * weights[:, None, :]).sum(axis=2) / weights.sum(axis=1)[:, None]

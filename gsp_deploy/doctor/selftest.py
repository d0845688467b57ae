"""Test this machine: build and run a small pooling head, and compare with the authors' outputs.

The head is `assets/selftest.onnx`. `assets/selftest.npz` contains two feature maps and the outputs
of the authors' PyTorch layer for them, with 100 steps of the paper's iteration.
"""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from gsp_deploy.base.choices import RuntimeWord
from gsp_deploy.base.environment import can_import
from gsp_deploy.base.platforms import install_line
from gsp_deploy.base.progress import Announce
from gsp_deploy.doctor.diagnosis import Diagnosis
from gsp_deploy.engine.api import installed_flavours
from gsp_deploy.errors import GateError, GspDeployError, MissingCapabilityError
from gsp_deploy.runtime import EmbeddingSession, open_session

ASSETS = Path(__file__).parent / "assets"
OUTPUTS = ("embedding", "attributes", "weights")
# Largest allowed difference to the authors' outputs, which are in float32 and themselves inexact.
TOLERANCE = {"onnx": 1e-5, "engine": 1e-4}
_BATCHES = (1, 2, 5, 8)
_REPEATS = 50
_THREADS = 3

State = Literal["passed", "failed", "error", "skipped"]


@dataclass(frozen=True)
class Step:
    """One step of the self-test.

    Attributes:
        name: what was tried.
        state: `failed` if the numbers are wrong, `error` if the step did not run to its end,
            `skipped` if this machine lacks something for it.
        detail: figures, or the reason.
    """

    name: str
    state: State
    detail: str


@dataclass(frozen=True)
class SelfTest:
    """All steps, in order."""

    steps: tuple[Step, ...]

    def check(self) -> None:
        """Raise an error for the worst step.

        Raises:
            GateError: something ran and gave wrong numbers.
            GspDeployError: something that is installed did not run.
            MissingCapabilityError: no step could run.
        """
        for state, error in (("failed", GateError), ("error", GspDeployError)):
            if found := [step for step in self.steps if step.state == state]:
                raise error(f"self-test: {found[0].name}: {found[0].detail}")
        if not any(step.state == "passed" for step in self.steps):
            raise MissingCapabilityError(
                "self-test: expected ONNX Runtime, OpenVINO or TensorRT, found none; "
                f"{install_line('cpu')}"
            )

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON-able data."""
        return dataclasses.asdict(self)


def run_selftest(diagnosis: Diagnosis, observe: Announce = lambda message: None) -> SelfTest:
    """Try everything that this machine has; other steps are skipped with a reason."""
    with tempfile.TemporaryDirectory(prefix="gsp-selftest-") as folder:
        return SelfTest(tuple(_steps(diagnosis, Path(folder), observe)))


def _steps(diagnosis: Diagnosis, folder: Path, observe: Announce) -> Iterator[Step]:
    observe("ONNX Runtime on the CPU")
    if not can_import("onnxruntime"):
        yield Step("ONNX Runtime", "skipped", "not installed")
    else:
        yield _tried("ONNX Runtime on the CPU", lambda: _embed_onnx("cpu"))
    if "CUDAExecutionProvider" in diagnosis.providers and diagnosis.no_gpu is None:
        observe("ONNX Runtime on the GPU")
        yield _tried("ONNX Runtime on the GPU", lambda: _embed_onnx("cuda"))
    if can_import("openvino"):
        observe("OpenVINO on the CPU")
        yield _tried("OpenVINO on the CPU", lambda: _embed_onnx("cpu", "openvino"))
    else:
        yield Step("OpenVINO", "skipped", "not installed")
    installed = installed_flavours()
    if not installed:
        yield Step("engine", "skipped", "neither TensorRT nor TensorRT-RTX is installed")
    for flavour in installed:
        observe(f"building an engine with {flavour}")
        yield from _engine_steps(flavour, folder, diagnosis.no_gpu)


def _tried(name: str, action: Callable[[], str]) -> Step:
    try:
        return Step(name, "passed", action())
    except GateError as error:
        return Step(name, "failed", str(error))
    except MissingCapabilityError as error:
        return Step(name, "skipped", str(error))
    except (GspDeployError, ModuleNotFoundError) as error:
        return Step(name, "error", str(error))


def _engine_steps(flavour: str, folder: Path, no_gpu: str | None) -> Iterator[Step]:
    path = folder / f"{flavour}.engine"
    built = _tried(f"build with {flavour}", lambda: _build(flavour, path))
    yield built
    if built.state != "passed":
        return
    if no_gpu is not None:
        yield Step(f"run with {flavour}", "skipped", no_gpu)
        return
    yield _tried(f"parity with {flavour}", lambda: _parity(path))
    yield _tried(f"several sessions with {flavour}", lambda: _side_by_side(path))
    yield _tried(f"latency with {flavour}", lambda: _latency(path))


def _build(flavour: str, path: Path) -> str:
    from gsp_deploy.engine.build import build_engine
    from gsp_deploy.engine.options import BuildOptions
    from gsp_deploy.engine.profiles import parse_batch, parse_size

    targets = ("8.6",) if flavour == "tensorrt-rtx" and not _has_gpu() else ()
    options = BuildOptions((parse_batch("1:2:8"),), (parse_size("7"),), targets=targets)
    built = build_engine(ASSETS / "selftest.onnx", path, options, flavour)
    plan = built.manifest
    return (
        f"{plan.layers} layers, {plan.plan_bytes:,} bytes for sm_"
        f"{', '.join(c.replace('.', '') for c in plan.compute_capabilities)}, "
        f"in {plan.build_seconds:.1f} s"
    )


def _has_gpu() -> bool:
    from gsp_deploy.engine.machine import Machine

    return Machine.here().device is not None


def _embed_onnx(device: str, runtime: RuntimeWord = "onnxruntime") -> str:
    with open_session(ASSETS / "selftest.onnx", device, runtime=runtime) as session:
        worst = _worst(session, golden(), TOLERANCE["onnx"])
        return f"at most {worst:.1e} from the authors'; {_timed(session):.3g} ms per batch of 2"


def _parity(engine: Path) -> str:
    """Compare every batch size with the golden outputs, with CUDA graphs and without."""
    with open_session(engine) as session, open_session(engine, cuda_graphs=False) as plain:
        cases = [golden(batch) for batch in _BATCHES] * 3  # the second and third run from a graph
        worst = max(
            _worst(each, case, TOLERANCE["engine"]) for each in (session, plain) for case in cases
        )
    return f"at most {worst:.1e} from the authors', batches of {', '.join(map(str, _BATCHES))}"


def _side_by_side(engine: Path) -> str:
    """Run several sessions on one engine at once, each in its own thread."""
    with open_session(engine) as first:
        sessions = [first, *(first.another() for _ in range(_THREADS - 1))]
        try:
            with ThreadPoolExecutor(_THREADS) as pool:
                worst = max(pool.map(_worst_of_many, sessions))
        finally:
            for session in sessions[1:]:
                session.close()
    return f"{_THREADS} at once, at most {worst:.1e} from the authors'"


def _worst_of_many(session: EmbeddingSession) -> float:
    cases = [golden(batch) for batch in _BATCHES] * 10
    return max(_worst(session, case, TOLERANCE["engine"]) for case in cases)


def _latency(engine: Path) -> str:
    with open_session(engine) as session:
        return f"{_timed(session):.3g} ms per batch of 2, copies included"


def golden(batch: int = 2) -> dict[str, np.ndarray]:
    """Return the feature maps and the authors' outputs, repeated to `batch` rows."""
    with np.load(ASSETS / "selftest.npz") as stored:
        return {name: np.resize(array, (batch, *array.shape[1:])) for name, array in stored.items()}


def _worst(session: EmbeddingSession, case: dict[str, np.ndarray], tolerance: float) -> float:
    """Return the largest difference; raise `GateError` if it exceeds the tolerance."""
    found = session.run(case["features"], OUTPUTS)
    worst = float(np.max([np.abs(found[name] - case[name]).max() for name in OUTPUTS]))
    if not worst <= tolerance:  # `not <=` is also true for NaN, which numpy's maximum keeps
        raise GateError(
            f"outputs differ from the authors' by {worst:.2g}, more than {tolerance:g}, at batch "
            f"{len(case['features'])}"
        )
    return worst


def _timed(session: EmbeddingSession) -> float:
    """Return the median time of a batch of 2 in milliseconds."""
    features, times = golden()["features"], []
    for _ in range(_REPEATS):
        start = time.perf_counter()
        session.embed(features)
        times.append(time.perf_counter() - start)
    return float(np.median(times)) * 1000

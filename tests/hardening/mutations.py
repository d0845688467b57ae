"""Open damaged files in a separate process, so that a native crash is counted as an outcome.

`python -m hardening.mutations KIND FILE FIRST LAST` (from `tests/`) tries the mutations with these
numbers. For each it prints `number` before the attempt and `number outcome` after it.
"""

from __future__ import annotations

import collections
import os
import random
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gsp_deploy.errors import GspDeployError

TESTS = Path(__file__).parents[1]
MOST_SECONDS = 300
FORMS = ("truncated", "one bit flipped", "eight bits flipped", "noise", "zeros", "head flipped")


@dataclass(frozen=True)
class Tally:
    """Outcomes of mutations.

    Attributes:
        outcomes: count of each outcome: the class of our error; `opens` (the damage does not
            change the result); `opens, other result`; `crash N` (signal N ended the process);
            anything else is the class of an error that must not reach the user.
        examples: the number of the first mutation with each outcome, to try it again.
    """

    outcomes: collections.Counter[str]
    examples: dict[str, int]


def mutate(content: bytes, number: int) -> bytes:
    """Return damaged bytes; the number determines the kind and the place of the damage."""
    draw, form = random.Random(number), FORMS[number % len(FORMS)]
    damaged, place = bytearray(content), random.Random(~number).randrange(len(content))
    if form == "truncated":
        return content[:place]
    if form.endswith("flipped"):
        end = len(content) if form != "head flipped" else min(len(content), 2048)
        for _ in range(8 if form == "eight bits flipped" else 1):
            damaged[draw.randrange(end)] ^= 1 << draw.randrange(8)
        return bytes(damaged)
    length = draw.randrange(1, 64)
    damaged[place : place + length] = bytes(length) if form == "zeros" else draw.randbytes(length)
    return bytes(damaged)


def try_mutations(kind: str, file: Path, count: int) -> Tally:
    """Try `count` mutations of a file; start a new process after each crash."""
    outcomes: collections.Counter[str] = collections.Counter()
    examples: dict[str, int] = {}
    for number, outcome in _outcomes(kind, file, count):
        outcomes[outcome] += 1
        examples.setdefault(outcome, number)
    return Tally(outcomes, examples)


def _outcomes(kind: str, file: Path, count: int) -> Iterator[tuple[int, str]]:
    first = 0
    while first < count:
        command = [sys.executable, "-m", "hardening.mutations", kind, str(file)]
        done = subprocess.run(
            [*command, str(first), str(count)],
            cwd=TESTS,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=MOST_SECONDS,
            check=False,
        )
        lines = [line.partition(" ") for line in done.stdout.splitlines()]
        yield from ((int(number), outcome) for number, _, outcome in lines if outcome)
        announced = [int(number) for number, _, outcome in lines if not outcome]
        if done.returncode == 0:
            return
        if done.returncode > 0 or not announced:
            raise RuntimeError(f"the process that tries mutations failed: {done.stderr[-2000:]}")
        yield announced[-1], f"crash {-done.returncode}"
        first = announced[-1] + 1


def _session(path: Path) -> bytes:
    from gsp_deploy import open_session

    draw = np.random.default_rng(0)
    with open_session(path, threads=1) as session:
        features = np.abs(draw.standard_normal((1, 6, 3, 4))).astype(np.float32)
        return session.embed(features).tobytes()


def _checkpoint(path: Path) -> bytes:
    from gsp_deploy import load_checkpoint

    state = load_checkpoint(path).state_dict()
    return b"".join(tensor.numpy().tobytes() for tensor in state.values())


def _inspection(path: Path) -> bytes:
    from gsp_deploy.inspection import inspect_file

    return repr(inspect_file(path).facts).encode()


def _plan(path: Path) -> bytes:
    """Open a plan as a session does, up to the step that needs a GPU."""
    from gsp_deploy.artifact.engine_manifest import check_plan, read_engine_sidecar

    manifest = read_engine_sidecar(path)
    assert manifest is not None
    check_plan(manifest, path)
    return manifest.to_json().encode()


# How to open a file of each kind, and the suffix of the damaged file.
KINDS: dict[str, tuple[Callable[[Path], bytes], str]] = {
    "checkpoint": (_checkpoint, ".safetensors"),
    "state-dict": (_checkpoint, ".pt"),
    "onnx": (_session, ".onnx"),
    "onnx-inspection": (_inspection, ".onnx"),
    "plan": (_plan, ".engine"),
    "plan-manifest": (_plan, ".engine.json"),
}


def _outcome(attempt: Callable[[Path], bytes], path: Path, right: bytes) -> str:
    try:
        found = attempt(path)
    except GspDeployError as error:
        return type(error).__name__ if "\n" not in str(error) else "error of several lines"
    except Exception as error:
        return f"leaked {type(error).__name__}"
    return "opens" if found == right else "opens, other result"


def _main(kind: str, file: Path, first: int, last: int) -> None:
    warnings.simplefilter("ignore")
    attempt, suffix = KINDS[kind]
    content = file.read_bytes()
    with tempfile.TemporaryDirectory() as folder:
        target, opened = Path(folder, f"damaged{suffix}"), Path(folder, f"damaged{suffix}")
        if kind.startswith("plan"):
            opened = Path(folder, "damaged.engine")
            plan = file.with_suffix("") if file.suffix == ".json" else file
            opened.write_bytes(plan.read_bytes())
            Path(f"{opened}.json").write_bytes(Path(f"{plan}.json").read_bytes())
        target.write_bytes(content)
        right = attempt(opened)
        for number in range(first, last):
            print(number, flush=True)
            target.write_bytes(mutate(content, number))
            print(number, _outcome(attempt, opened, right), flush=True)


if __name__ == "__main__":
    _main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))

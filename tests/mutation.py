"""Mutation testing: how many small faults in a module do the tests near it find?

    python tests/mutation.py gsp_deploy/parity/gates.py --sample 60

The mutants are those of cosmic-ray. Each runs in a fork of one process that has the large packages
imported, so that a mutant takes as long as its tests and not as long as importing torch. The files
on disk stay as they are; so tests that start a process of their own do not see the mutant.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import importlib.abc
import importlib.machinery
import importlib.metadata
import importlib.util
import os
import random
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator, operator_names

TESTS = {
    "gsp_deploy/layers/transport.py": "tests/layers/test_transport.py "
    "tests/layers/test_certified.py",
    "gsp_deploy/layers/costs.py": "tests/layers/test_costs.py",
    "gsp_deploy/layers/residual.py": "tests/layers/test_residual.py",
    "gsp_deploy/export/transport.py": "tests/export/test_transport.py "
    "tests/export/test_certified_solver.py",
    "gsp_deploy/export/costs.py": "tests/export/test_costs.py",
    "gsp_deploy/export/residual.py": "tests/export/test_residual.py",
    "gsp_deploy/parity/gates.py": "tests/parity/test_gates.py",
    "gsp_deploy/parity/comparison.py": "tests/parity/test_comparison_of_outputs.py",
    "gsp_deploy/parity/retrieval.py": "tests/parity/test_retrieval_agreement.py",
    "gsp_deploy/bundle/files.py": "tests/bundle/test_files.py tests/bundle/test_links.py "
    "tests/bundle/test_download_cache.py",
    "gsp_deploy/serving/limits.py": "tests/serving/test_limits.py tests/serving/test_bounds.py",
    "gsp_deploy/serving/gate.py": "tests/serving/test_gate.py",
    "gsp_deploy/serving/batching.py": "tests/serving/test_batching.py",
    "gsp_deploy/serving/rates.py": "tests/serving/test_rates.py",
}
LARGE = (
    "numpy torch onnx onnx_ir onnxruntime faiss hypothesis.strategies pytest fastapi PIL.Image "
    "pandas pymilvus"  # the last two for tests/conftest.py
)
# `|` is in annotations, which nothing evaluates; the last two replace variables that one names.
PASSED_OVER = ("ReplaceBinaryOperator_BitOr", "VariableReplacer", "VariableInserter")


@dataclass(frozen=True)
class Mutant:
    """A module's changed source, and the change in words."""

    source: str
    change: str


def main() -> int:
    """Run mutants of the modules named, print the survivors and the score."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("modules", nargs="*", help=f"Of {', '.join(TESTS)}; none means all.")
    parser.add_argument("--sample", type=int, default=40, help="Mutants of each module, at most.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--timeout", type=float, default=120, help="Seconds of one mutant.")
    asked = parser.parse_args()
    if unknown := set(asked.modules) - TESTS.keys():
        parser.error(f"no tests are listed for {', '.join(sorted(unknown))}")
    for name in LARGE.split():
        importlib.import_module(name)
    for plugin in importlib.metadata.entry_points(group="pytest11"):
        plugin.load()
    gc.freeze()  # so that a fork does not search what was imported for garbage
    for module in asked.modules or TESTS:
        _score(module, asked)
    return 0


def _score(module: str, asked: argparse.Namespace) -> None:
    tests = TESTS[module].split()
    source = Path(module).read_text(encoding="utf-8")
    if _is_killed(module, source, tests, 10 * asked.timeout):
        raise SystemExit(f"{module}: its tests fail before anything is changed")
    mutants = _mutants(source)
    chosen = random.Random(asked.seed).sample(mutants, min(asked.sample, len(mutants)))
    killed = 0
    for mutant in chosen:
        if _is_killed(module, mutant.source, tests, asked.timeout):
            killed += 1
        else:
            print(f"  survives: {mutant.change}", flush=True)
    print(f"{module}: {killed} of {len(chosen)} killed, of {len(mutants)} mutants", flush=True)


def _mutants(source: str) -> list[Mutant]:
    found = []
    for name in operator_names():
        if any(part in name for part in PASSED_OVER):
            continue
        operator, occurrence = get_operator(name)(), 0
        while (changed := mutate_code(source, operator, occurrence)) is not None:
            found.append(Mutant(changed, _difference(source, changed)))
            occurrence += 1
    return found


def _difference(before: str, after: str) -> str:
    lines = zip(before.splitlines(), after.splitlines(), strict=False)
    for number, (old, new) in enumerate(lines, 1):
        if old != new:
            return f"{number}: {old.strip()} -> {new.strip()}"
    return "the last lines are gone"


def _is_killed(module: str, source: str, tests: list[str], timeout: float) -> bool:
    """Run the tests in a fork that imports this source, and return whether they fail."""
    child = os.fork()
    if not child:
        os._exit(_in_child(module, source, tests))
    until = time.monotonic() + timeout
    while time.monotonic() < until:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status) != 0
        time.sleep(0.02)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return True


def _in_child(module: str, source: str, tests: list[str]) -> int:
    with open(os.devnull, "w") as nowhere:
        for stream in (1, 2):
            os.dup2(nowhere.fileno(), stream)
    import pytest

    name = module.removesuffix(".py").replace("/", ".")
    sys.meta_path.insert(0, _Changed(name, module, source))
    quick = ["-n0", "-x", "-q", "-p", "no:cacheprovider", "--assert=plain"]
    return int(pytest.main([*quick, *tests]))


class _Changed(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds one module, with a source of its own."""

    def __init__(self, name: str, path: str, source: str) -> None:
        self.name, self.path, self.source = name, path, source

    def find_spec(
        self, name: str, path: object, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != self.name:
            return None
        return importlib.util.spec_from_file_location(name, self.path, loader=self)  # type: ignore[arg-type]

    def exec_module(self, module: ModuleType) -> None:
        exec(compile(self.source, self.path, "exec"), module.__dict__)


if __name__ == "__main__":
    sys.exit(main())

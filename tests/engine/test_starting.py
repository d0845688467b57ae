"""TensorRT that cannot start is one line: on doubles, and on the real lean runtime."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from gsp_deploy.engine import starting
from gsp_deploy.engine.api import TensorRT, installed_runtimes
from gsp_deploy.engine.starting import check_driver, start
from gsp_deploy.errors import MissingCapabilityError

ERROR = "createInferRuntime: Error Code 6: API Usage Error (CUDA failure 35 In here at /a.cpp:9)"
REAL = """
import sys
from gsp_deploy.engine.log import make_log
from gsp_deploy.engine.api import load_tensorrt
from gsp_deploy.engine.starting import start
from gsp_deploy.errors import MissingCapabilityError
tensorrt = load_tensorrt("tensorrt-lean")
try:
    start(tensorrt, tensorrt.module.Runtime, make_log(tensorrt))
except MissingCapabilityError as error:
    print("refused:", error)
else:
    print("started")
"""


class Log:
    def __init__(self, *errors: str) -> None:
        self.errors = list(errors)


def tensorrt() -> TensorRT:
    module: Any = SimpleNamespace()
    return TensorRT("tensorrt", module, "11.4.0")


def test_an_object_is_returned_if_no_error_is_logged() -> None:
    log = Log("an older error")
    made = start(tensorrt(), lambda *given: given, log, "engine")
    assert made == ("engine", log)


@pytest.mark.parametrize("made", [object(), None])
def test_an_error_logged_while_creating_is_a_failure(made: object) -> None:
    def create(log: Log) -> object:
        log.errors += [ERROR, "a second one"]
        return made

    before = sys.getrefcount(made)
    with pytest.raises(MissingCapabilityError, match=r"does not start: CUDA failure 35; `gsp-de"):
        start(tensorrt(), create, Log("an older error"))
    assert sys.getrefcount(made) >= before  # it is never released


def test_nothing_at_all_is_a_failure_too() -> None:
    with pytest.raises(MissingCapabilityError, match="it gave no reason"):
        start(tensorrt(), lambda log: None, Log())


@pytest.mark.parametrize(("needed", "driver"), [("12", "12.2"), ("12.6", "13.0"), (None, "11.0")])
def test_a_driver_runs_its_own_major_version_and_older_ones(monkeypatch, needed, driver) -> None:
    monkeypatch.setattr(starting, "cuda_of", lambda tensorrt: needed)
    check_driver(tensorrt(), driver)


def test_a_driver_that_is_too_old_is_one_line(monkeypatch) -> None:
    monkeypatch.setattr(starting, "cuda_of", lambda tensorrt: "13")
    with pytest.raises(MissingCapabilityError, match=r"for CUDA 13, and .* CUDA 12\.8: install"):
        check_driver(tensorrt(), "12.8")


@pytest.mark.skipif("tensorrt-lean" not in installed_runtimes(), reason="TensorRT lean is absent")
def test_the_real_runtime_refuses_in_one_line_and_the_process_ends_well() -> None:
    ended = subprocess.run([sys.executable, "-c", REAL], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith(("refused: TensorRT lean runtime", "started"))
    assert ended.stdout.count("\n") == 1

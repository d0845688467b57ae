"""After Ctrl-C or SIGKILL at any stage the output is whole or missing, and old files remain."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from gsp_deploy.base.interrupts import remembered_interrupts
from gsp_deploy.bundle.verification import verify_bundle
from gsp_deploy.inspection import inspect_file

from .workshop import Ran, contents, run_here

MOMENTS = 3
# PyTorch's exporter has many stages; `make tried` takes more moments than the tests.
MOMENTS_OF_EXPORT = 8 if "GSP_TRIED" in os.environ else 5
INTERRUPTED = 130
MOST_SECONDS = 60

COMMANDS = {
    "embed": "embed|@model.onnx|@images|-o|>t.npy|--force",
    "export": "export|@model.safetensors|-o|>m.onnx|--force|--iterations|2",
    "build": "build|@model.onnx|-o|>m.engine|--force|--flavour|tensorrt-rtx|--target|sm_86",
    "package": "package|@model.onnx|-o|>bundle|--force",
}
needs_rtx = pytest.mark.skipif(
    importlib.util.find_spec("tensorrt_rtx_bindings") is None,
    reason="needs tensorrt-rtx, which builds plans without a GPU",
)
ALL = [pytest.param(name, marks=needs_rtx if name == "build" else ()) for name in COMMANDS]


def run_in_child(arguments: list[str], note: Path, arm: Callable[[], None]) -> int:
    """Run a command in a fork of this process, where everything is imported; return its status."""
    child = os.fork()
    if child == 0:
        arm()
        ran = run_here(*arguments)
        signal.setitimer(signal.ITIMER_REAL, 0)
        note.write_bytes(pickle.dumps(ran))
        os._exit(0)
    end = time.monotonic() + MOST_SECONDS
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    raise TimeoutError(f"{arguments} did not end")


def after(seconds: float, number: signal.Signals) -> Callable[[], None]:
    """Return a function that makes this process send itself a signal after a delay."""

    def arm() -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), number))
        signal.setitimer(signal.ITIMER_REAL, seconds)

    return arm


def hidden(folder: Path) -> list[str]:
    """Return the hidden folders that killed processes were writing in."""
    return [path.name for path in folder.iterdir() if path.name.startswith(".")]


def visible(folder: Path) -> dict[str, bytes]:
    """Return the files, except those in hidden folders."""
    found = contents(folder)
    return {name: data for name, data in found.items() if not name.startswith(".")}


def assert_sound(command: str, output: Path) -> None:
    """The file with the output's own name is whole."""
    if command == "export":
        assert not inspect_file(output / "m.onnx").warnings
    elif command == "package":
        assert verify_bundle(output / "bundle").passed
    elif command == "build":
        assert inspect_file(output / "m.engine").kind == "engine"
    else:
        assert (output / "t.ids.txt").read_text().count("\n") > 10


@pytest.mark.parametrize("command", ALL)
def test_signals_at_any_moment(command: str, workshop: Path, tmp_path: Path, tried) -> None:
    note, output = tmp_path / "ran", tmp_path / "output"
    arguments = [
        str(workshop / word[1:]) if word[0] == "@" else word.replace(">", f"{output}/")
        for word in COMMANDS[command].split("|")
    ]
    output.mkdir()
    begun = time.monotonic()
    assert run_in_child(arguments, note, lambda: None) == 0
    took, whole = time.monotonic() - begun, visible(output)
    ran: Ran = pickle.loads(note.read_bytes())
    assert ran.code == 0, ran
    moments = MOMENTS_OF_EXPORT if command == "export" else MOMENTS
    ends: dict[signal.Signals, list[str]] = {signal.SIGINT: [], signal.SIGKILL: []}
    for number, seen in ends.items():
        for moment in range(moments):
            note.unlink(missing_ok=True)
            arm = after(took * (moment + 0.5) / moments, number)
            status = run_in_child(arguments, note, arm)
            left = contents(output) if number == signal.SIGINT else visible(output)
            assert left.keys() == whole.keys()
            assert_sound(command, output)
            if number == signal.SIGINT:
                ran = pickle.loads(note.read_bytes())
                assert ran.leaked is None
                assert ran.code in (0, INTERRUPTED), ran  # 0: it had ended before
                assert ran.code == 0 or ran.error.startswith("error: interrupted")
            seen.append(str(ran.code) if number == signal.SIGINT else f"signal {-status}")
    assert run_in_child(arguments, note, lambda: None) == 0
    assert not hidden(output)  # what the killed ones left, the next one has removed
    endings = f"{', '.join(ends[signal.SIGINT])}; {', '.join(ends[signal.SIGKILL])}"
    tried(
        "Signals",
        f"{command}: Ctrl-C and SIGKILL at {moments} moments each",
        f"{endings}; the output is whole, old or new, and the next run removes leftovers",
    )


@pytest.mark.parametrize("stage", ["SystemError", "GspDeployError"])
def test_ctrl_c_that_a_library_makes_something_else_of(
    stage: str, workshop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CPython's compiler sometimes does this inside PyTorch's exporter."""

    def lose_it(*_: object, **__: object) -> None:
        try:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(1)
        except KeyboardInterrupt:
            raise SystemError("compile returned NULL without setting an exception") from None

    place = "torch.onnx.export" if stage == "GspDeployError" else "gsp_deploy.export.export_onnx"
    monkeypatch.setattr(place, lose_it)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        ran = run_here("export", workshop / "model.safetensors", "-o", tmp_path / "m.onnx")
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert (ran.code, ran.leaked) == (INTERRUPTED, None)
    assert ran.error.startswith("error: interrupted")
    assert not contents(tmp_path)


@pytest.mark.parametrize("end", [None, SystemExit(0), ValueError("wrapped")], ids=repr)
def test_ctrl_c_that_is_swallowed_is_raised_at_the_end(end: BaseException | None) -> None:
    def swallow() -> None:
        with remembered_interrupts():
            with contextlib.suppress(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
            if end is not None:
                raise end

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            swallow()
        with pytest.raises(SystemExit), remembered_interrupts():
            raise SystemExit(0)
    finally:
        signal.signal(signal.SIGINT, before)


def test_an_interrupted_training_says_so(workshop: Path, tmp_path: Path, tried) -> None:
    """Test Ctrl-C in training; tests/training/test_kill.py tests SIGKILL."""
    run = tmp_path / "run"
    command = [sys.executable, "-m", "gsp_deploy_cli.main", "train", workshop / "recipe.toml"]
    endless = ("--set", "run.steps=1000000", "--set", "run.save_every=1")
    child = subprocess.Popen([*command, "-o", run, *endless], stderr=subprocess.PIPE, text=True)
    end = time.monotonic() + MOST_SECONDS
    while not (run / "state.pt").exists() and time.monotonic() < end and child.poll() is None:
        time.sleep(0.02)
    child.send_signal(signal.SIGINT)
    said = child.communicate(timeout=MOST_SECONDS)[1]
    assert child.returncode == INTERRUPTED, said
    assert sum(line.startswith("error: interrupted") for line in said.splitlines()) == 1
    assert "Traceback" not in said
    assert (run / "state.pt").exists()
    tried("Signals", "train: Ctrl-C during a run", f"{child.returncode}; --resume continues")

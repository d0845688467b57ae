"""A folder that appears whole or not at all, in place of an earlier one of its kind."""

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
    """Yield an empty folder that becomes `folder` when the block ends without an error.

    Args:
        folder: what it will be called.
        force: replace a folder of that name, if it holds a file `known_by`.
        known_by: what tells a folder of ours, so that nothing else is ever deleted.
        kind: what such a folder is called.
        foreign: returns the name of a file in such a folder that this tool did not make, or None.

    Raises:
        UsageError: it exists and is not to be replaced, or holds a foreign file.
        OutputError: it cannot be written.
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
    """Return the first entry of a folder, sorted, that is not among the names, or None.

    What a killed run left half-written of one of them, `.NAME.xxxxxxxx`, is no stranger.
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
    """Raise `UsageError` as `new_folder` would, before any work is done."""
    if not folder.exists() and not folder.is_symlink():
        return
    if folder.is_dir() and not folder.is_symlink():
        if not any(folder.iterdir()):
            return
        if (folder / known_by).is_file():
            if name := foreign(folder):
                raise UsageError(
                    f"{folder} holds {name}, which gsp-deploy did not make; move it away, or "
                    "choose another name"
                )
            if force:
                return
            raise UsageError(f"{folder} exists; pass --force to replace it, or choose another name")
    raise UsageError(f"{folder} exists and is no {kind}; choose another name")

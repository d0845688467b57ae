"""Find what a glob pattern matches, by the rules of `walking`: order, hidden names, links.

`*`, `?` and `[...]` match within a name, and `**` crosses folders. A wildcard matches no hidden
name, and no folder that a system creates: name such a folder in the pattern to match it. `**`
enters the folders that a walk enters, so it follows a loop of links once.
"""

from __future__ import annotations

import fnmatch
import glob
import os
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from gsp_deploy.images.walking import (
    HIDDEN,
    PassedOver,
    entries,
    is_folder,
    is_left_out,
    survey_images,
)


@dataclass(frozen=True)
class Listed:
    """One entry of a folder: its name, its path or URL, and its stamp (empty for a folder)."""

    name: str
    location: str
    is_folder: bool
    stamp: str


def list_local(folder: str) -> list[Listed]:
    """Return a folder's entries, sorted by name; none if there is no such folder.

    Raises:
        DataError: the system denies access.
    """
    if not os.path.isdir(folder):
        return []
    return [
        Listed(entry.name, os.path.join(folder, entry.name), is_folder(entry), "")
        for entry in entries(Path(folder))
    ]


def local_folders(folder: str) -> Collection[str]:
    """Return every folder that a walk from a folder of this machine enters."""
    return survey_images(folder, ()).folders if os.path.isdir(folder) else ()


def nothing_matched(pattern: str, passed_over: PassedOver) -> str:
    """Return the error of a pattern that matches nothing."""
    return f"{pattern}: the pattern matches nothing{f'; {passed_over}' if passed_over else ''}"


class Pattern:
    """A glob pattern; iterate to get what it matches, folder by folder in sorted order.

    Args:
        pattern: a path or URL with wildcards.
        list_folder: returns a folder's entries, sorted; none if there is no such folder.
        enters: returns the folders that `**` enters below a folder; None if a store has no links,
            so that their names decide.

    Attributes:
        passed_over: counts of what a wildcard skipped so far.
    """

    def __init__(
        self,
        pattern: str,
        list_folder: Callable[[str], list[Listed]] = list_local,
        enters: Callable[[str], Collection[str]] | None = local_folders,
    ) -> None:
        self._pattern, self._list_folder, self._enters = pattern, list_folder, enters
        self._hidden = 0
        self._folders: set[str] = set()

    def __iter__(self) -> Iterator[Listed]:
        self._hidden, self._folders = 0, set()
        parts = self._pattern.replace(os.sep, "/").split("/")
        fixed = next(i for i, part in enumerate(parts) if glob.has_magic(part))
        start = "/".join(parts[:fixed])
        if self._pattern.startswith("/"):
            start = start or "/"
        yield from self._matches(start or ".", parts[fixed:], bare=fixed == 0)

    @property
    def passed_over(self) -> PassedOver:
        """Hidden files that the pattern would match, and the folders that it did not enter."""
        names = Counter(os.path.basename(folder) for folder in self._folders)
        return PassedOver({HIDDEN: self._hidden} if self._hidden else {}, names)

    def _matches(self, folder: str, parts: list[str], bare: bool = False) -> Iterator[Listed]:
        part, *rest = parts
        if part == "**":
            entered = None if self._enters is None else self._enters(folder)
            yield from self._across(folder, rest or ["*"], entered, bare, deep=bool(rest))
            return
        for entry in self._list_folder(folder):
            location = entry.name if bare else entry.location
            if not fnmatch.fnmatchcase(entry.name, part) or self._passes_over(entry, part):
                continue
            if not rest:
                yield Listed(entry.name, location, entry.is_folder, entry.stamp)
            elif entry.is_folder:
                yield from self._matches(location, rest)

    def _across(
        self,
        folder: str,
        rest: list[str],
        entered: Collection[str] | None,
        bare: bool,
        deep: bool,
    ) -> Iterator[Listed]:
        """Match the rest of the pattern here and, if it is `deep`, in the folders below."""
        yield from self._matches(folder, rest, bare)
        for entry in self._list_folder(folder) if deep else ():
            location = entry.name if bare else entry.location
            if not entry.is_folder:
                continue
            if is_left_out(entry.name):
                self._folders.add(location)
            elif entered is None or str(Path(location)) in entered:
                yield from self._across(location, rest, entered, False, deep)

    def _passes_over(self, entry: Listed, part: str) -> bool:
        """Whether a wildcard skips this entry; if so, count it."""
        if not entry.is_folder:
            is_hidden = entry.name.startswith(".") and not part.startswith(".")
            self._hidden += is_hidden
            return is_hidden
        named = part.startswith(".") if entry.name.startswith(".") else not glob.has_magic(part)
        if named or not is_left_out(entry.name):
            return False
        self._folders.add(entry.location)
        return True

"""Choose images of an index by name, by path, or by glob pattern."""

from __future__ import annotations

import glob
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from gsp_deploy.errors import UsageError, brief


class _Named:
    """What one name, path or pattern chooses; a pattern counts if no file has it as its name."""

    def __init__(self, name: str) -> None:
        self._forms = {name, Path(name).absolute().as_posix()}
        self._is_pattern = glob.has_magic(name)
        self.same: set[str] = set()
        self.matching: set[str] = set()

    def see(self, file: str) -> None:
        if file in self._forms:
            self.same.add(file)
        elif self._is_pattern and any(fnmatchcase(file, form) for form in self._forms):
            self.matching.add(file)


def chosen(files: Iterable[str], names: Sequence[str]) -> set[str]:
    """Return the files that some names mean.

    Args:
        files: the images of an index; they are read once.
        names: images as the index or the file system names them, or glob patterns.

    Raises:
        UsageError: a name matches no image.
    """
    found = {name: _Named(name) for name in names}
    for file in files:
        for named in found.values():
            named.see(file)
    for name, named in found.items():
        if not named.same and not named.matching:
            raise UsageError(f"the gallery has no image {brief(name)}")
    return set().union(*(named.same or named.matching for named in found.values()))

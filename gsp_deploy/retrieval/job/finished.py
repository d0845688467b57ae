"""Find what an earlier run has finished, by the keys in the parts' footers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from gsp_deploy.base.progress import Announce
from gsp_deploy.base.scratch import settle
from gsp_deploy.errors import DataError, UsageError
from gsp_deploy.retrieval.dataset.layout import (
    EmbeddingSettings,
    Part,
    failures_name,
    key_of,
    numbers_of,
    part_name,
)
from gsp_deploy.retrieval.dataset.parts import check_pages, read_footer
from gsp_deploy.retrieval.stored import MANIFEST


class Finished:
    """The finished parts in a folder.

    Args:
        folder: the data set's folder; it may be empty or missing.
        settings: the settings of this run.
        force: whether parts with other settings or of another source may be replaced.
        note: called with a line for each damaged part that will be written again.

    Raises:
        UsageError: the folder contains something that gsp-deploy did not make, or was made with
            other settings and `force` is false.
    """

    def __init__(
        self,
        folder: Path,
        settings: EmbeddingSettings,
        force: bool,
        note: Announce = lambda _: None,
    ) -> None:
        self._folder, self._settings, self._force, self._note = folder, settings, force, note
        self.names = _names_in(folder)
        self._refuse_other_settings()

    def of(self, number: int, source_key: str) -> tuple[list[Part], bool]:
        """Return a slice's leading parts that are whole, and whether they are all of it.

        Raises:
            UsageError: a part is of another source, and `force` is false.
        """
        parts: list[Part] = []
        while (name := part_name(number, len(parts))) in self.names:
            part = self._whole(self._folder / name, key_of(self._settings, source_key, len(parts)))
            if part is None:
                break
            parts.append(part)
            if part.last:
                return parts, True
        return parts, False

    def _whole(self, path: Path, key: str) -> Part | None:
        try:
            part, _ = read_footer(path)
            if part.key == key:
                check_pages(path)
                if part.failures:
                    check_pages(path.with_name(part.failures_name))
                return part
        except DataError as error:
            self._note(f"{error}; it is written again")
            return None
        if not self._force:
            raise UsageError(
                f"{path}: its source has changed since it was written; pass --force to embed the "
                "changed parts again, or choose another folder"
            )
        return None

    def _refuse_other_settings(self) -> None:
        for name in sorted(self.names):
            try:
                _, found = read_footer(self._folder / name)
            except DataError:
                continue
            difference = found.differences(self._settings)
            if difference and not self._force:
                raise UsageError(
                    f"{self._folder} was made with other settings: {difference}; pass --force to "
                    "replace it, or choose another folder"
                )
            return


def footers_of(folder: Path, number: int, key: Callable[[int], str]) -> list[Part] | None:
    """Return the parts of a slice by their footers alone, or None if one is missing.

    Args:
        folder: the data set's folder.
        number: of the slice.
        key: returns the key that a part should have, by its number within the slice.
    """
    parts: list[Part] = []
    while not parts or not parts[-1].last:
        path = folder / part_name(number, len(parts))
        if not path.is_file():
            return None
        part, _ = read_footer(path)
        if part.key != key(len(parts)):
            return None
        parts.append(part)
    return parts


def strangers(folder: Path, parts: list[Part]) -> list[Path]:
    """Return the parts and lists of failures in a folder that do not belong to these parts."""
    wanted = {part.name for part in parts} | {p.failures_name for p in parts if p.failures}
    return [path for path in sorted(folder.glob("*.parquet")) if path.name not in wanted]


def refuse_foreign(folder: Path) -> None:
    """Raise `UsageError` if a folder contains something that `embed` did not make."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise UsageError(f"{folder} exists and is not a folder; choose another name")
    for path in sorted(folder.iterdir()):
        if not path.name.startswith(".") and not _is_known(path.name):
            raise UsageError(
                f"{folder} contains {path.name}, which embed did not make; choose another folder"
            )


def _names_in(folder: Path) -> frozenset[str]:
    """Complete what a killed run began, and return the names of the parts."""
    refuse_foreign(folder)
    if not folder.exists():
        return frozenset()
    found = sorted(path.name for path in folder.iterdir())
    for hidden in found:
        name = hidden[1:].rpartition(".")[0]
        if hidden.startswith(".") and numbers_of(name) is not None:
            settle(folder / name)
    names = (path.name for path in folder.iterdir())
    return frozenset(name for name in names if numbers_of(name) is not None)


def _is_known(name: str) -> bool:
    number = numbers_of(name.replace("failures-", "part-", 1))
    return name == MANIFEST or (number is not None and name in _both(*number))


def _both(number: int, piece: int) -> tuple[str, str]:
    return part_name(number, piece), failures_name(number, piece)

"""Find image files, decode them in parallel, and derive class labels from their folders."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np

from gsp_deploy.base.progress import Announce
from gsp_deploy.config import PreprocessingSpec
from gsp_deploy.errors import DataError, UsageError
from gsp_deploy.images.ahead import decoding_threads, worked_ahead
from gsp_deploy.images.formats import readable_suffixes
from gsp_deploy.images.patterns import Pattern, nothing_matched
from gsp_deploy.images.preprocessing import load_image
from gsp_deploy.images.reduction import refuse_unaveraged
from gsp_deploy.images.walking import PassedOver, Walk, sort_out, walk_images

T = TypeVar("T")


@dataclass(frozen=True)
class ImageBatch:
    """Decoded images: uint8 `(B, H, W, 3)`, and the file of each one."""

    images: np.ndarray
    files: tuple[Path, ...]

    def __len__(self) -> int:
        return len(self.files)

    @property
    def ids(self) -> tuple[str, ...]:
        """The files as strings with forward slashes, in the images' order."""
        return tuple(file.as_posix() for file in self.files)


@dataclass(frozen=True)
class ImageFailure:
    """A file that could not be decoded, and the reason in one line."""

    file: Path
    reason: str


@dataclass(eq=False)
class ImageReader:
    """Iterates over decoded batches of image files in order, in constant memory.

    A file that cannot be decoded is left out and listed in `failures`; the batches stay full. With
    `strict` it raises instead. You can iterate again from the start.

    Args:
        files: the files to decode, as `find_images` returns them.
        spec: the size and pre-processing of the images.
        batch_size: images in each batch; the last batch may be smaller.
        strict: raise at the first file that cannot be decoded.
        threads: decoding threads; None means one per core, at most 8.
        reduced: decode large JPEG files at a fraction of their size; see `load_image`.

    Raises:
        UsageError: on construction, if `batch_size` or `threads` is below 1, or if the images
            cannot be `reduced`.
        DataError: while iterating, if no file can be decoded, or with `strict` if one cannot.
    """

    files: Sequence[Path]
    spec: PreprocessingSpec
    batch_size: int = 32
    strict: bool = False
    threads: int | None = None
    reduced: bool = False
    failures: list[ImageFailure] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        for name, value in (("batch_size", self.batch_size), ("threads", self.threads)):
            if value is not None and value < 1:
                raise UsageError(f"{name} must be at least 1, got {value}")
        if self.reduced:
            refuse_unaveraged(self.spec)

    def __len__(self) -> int:
        """Return the number of files, including broken ones."""
        return len(self.files)

    def __iter__(self) -> Iterator[ImageBatch]:
        self.failures.clear()
        decoded = self._decoded()
        empty = True
        while pairs := list(islice(decoded, self.batch_size)):
            empty = False
            files, images = zip(*pairs, strict=True)
            yield ImageBatch(np.stack(images), files)
        if empty and self.failures:
            raise DataError(
                f"none of the {len(self.files)} images can be read; "
                f"the first: {self.failures[0].reason}"
            )

    def _decoded(self) -> Iterator[tuple[Path, np.ndarray]]:
        """Yield the readable images in order; the threads decode a little ahead."""
        threads = self.threads or decoding_threads()
        load = partial(load_image, spec=self.spec, reduced=self.reduced)
        for file, found in worked_ahead(self.files, load, self.batch_size, threads):
            if not isinstance(found, DataError):
                yield file, found
            elif self.strict:
                raise found
            else:
                self.failures.append(ImageFailure(file, str(found)))


def read_images(
    files: Sequence[Path], spec: PreprocessingSpec
) -> tuple[ImageBatch, list[ImageFailure]]:
    """Return all readable images as one batch, and those that cannot be read.

    Raises:
        DataError: no file can be decoded.
    """
    reader = ImageReader(files, spec)
    batches = list(reader)
    images = np.concatenate([batch.images for batch in batches])
    return ImageBatch(images, tuple(f for batch in batches for f in batch.files)), reader.failures


def find_images(
    paths: Iterable[str | os.PathLike[str]], announce: Announce = lambda line: None
) -> list[Path]:
    """Return the image files in folders, files and glob patterns.

    The arguments keep their order. Files in a folder (see `walk_images`) or from a pattern (`**`
    crosses folders) are sorted. A file that you name directly may have any suffix. A file found
    twice is returned once.

    Args:
        paths: folders, files and patterns.
        announce: called with one line that counts the skipped files by suffix and by folder.

    Raises:
        DataError: a path does not exist, or none of them contains an image.
    """
    arguments = [os.fspath(path) for path in paths]
    walks = [_expand(argument) for argument in arguments]
    passed_over = sum((walk.passed_over for walk in walks), PassedOver())
    found = [file for walk in walks for file in walk.files]
    if not found:
        raise DataError(
            f"no image in {', '.join(arguments) or 'nothing'} "
            f"(suffixes: {', '.join(sorted(readable_suffixes()))})"
            f"{f'; {passed_over}' if passed_over else ''}"
        )
    if passed_over:
        announce(str(passed_over))
    return list(dict.fromkeys(found))


def evenly_spaced(items: Sequence[T], most: int) -> list[T]:
    """Return up to `most` of the items, evenly spaced, in their order.

    >>> evenly_spaced("abcdef", 3)
    ['a', 'c', 'e']
    """
    count = min(most, len(items))
    return [items[i * len(items) // count] for i in range(count)]


def name_with_folder(file: str | Path) -> str:
    """Return a file's name with its folder's name, its class if there is a folder per class.

    >>> name_with_folder("photos/cat/1.png")
    'cat/1.png'
    """
    return "/".join(Path(file).parts[-2:])


def class_labels(files: Sequence[Path]) -> np.ndarray | None:
    """Return a class for each file, int64 `(n,)`, if the files are in a folder per class.

    The class is the name of the file's own folder, so `train/cat` and `test/cat` are one class.
    Return None if the folders do not look like classes: there is only one, one is inside another,
    or none contains two images, so that no query could have a match.
    """
    folders = {file.parent for file in files}
    names, labels, counts = np.unique(
        [file.absolute().parent.name for file in files], return_inverse=True, return_counts=True
    )
    nested = any(parent in folders for folder in folders for parent in folder.parents)
    if len(names) < 2 or nested or counts.max() < 2:
        return None
    return labels.astype(np.int64)


def _expand(argument: str) -> Walk:
    path = Path(argument)
    if path.is_dir():
        return walk_images(path, readable_suffixes())
    if path.exists():
        return Walk((path,), PassedOver())
    if not glob.has_magic(argument):
        raise DataError(f"{argument}: no such file or folder")
    pattern = Pattern(argument)
    matches = list(pattern)
    if not matches:
        raise DataError(nothing_matched(argument, pattern.passed_over))
    walks = [
        walk_images(match.location, readable_suffixes())
        if match.is_folder
        else sort_out([Path(match.location)], readable_suffixes())
        for match in matches
    ]
    return Walk(
        tuple(file for walk in walks for file in walk.files),
        sum((walk.passed_over for walk in walks), pattern.passed_over),
    )

"""One image of a source: its id, where it is from, and its bytes or its file."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np

from gsp_deploy.config import PreprocessingSpec
from gsp_deploy.errors import DataError
from gsp_deploy.images.decoding import shown_name
from gsp_deploy.images.preprocessing import load_image
from gsp_deploy.sources.stores import is_remote, read_file


@dataclass(frozen=True)
class Columns:
    """Names of the columns in tables of images; None means found by name and type."""

    image: str | None = None
    id: str | None = None


FOUND_BY_TYPE = Columns()


@dataclass(frozen=True)
class FileEntry:
    """A file as a listing shows it.

    Attributes:
        id: the image's id; for a container the beginning of its images' ids.
        location: its path or URL.
        stamp: size and time, or the object store's tag; empty if the listing has none.
    """

    id: str
    location: str
    stamp: str


@dataclass(frozen=True)
class Record:
    """One image of a source.

    Attributes:
        id: name of the image, unique among all sources.
        source: the folder or the container of the image.
        location: path or URL of the image's own file; empty if `content` has the bytes.
        content: the bytes of the image's file, or None.
        error: why a container cannot give the bytes; None if it can.
    """

    id: str
    source: str
    location: str = ""
    content: bytes | None = None
    error: str | None = None

    def pixels(self, spec: PreprocessingSpec, *, reduced: bool = False) -> np.ndarray:
        """Return the image in the model's size, uint8 `(height, width, 3)`.

        Args:
            spec: the model's pre-processing.
            reduced: decode large JPEG files at a fraction of their size; see `load_image`.

        Raises:
            DataError: the image is missing or damaged; another image may still be readable.
            SourceError: its store cannot be read.
        """
        if self.error is not None:
            raise DataError(f"{shown_name(self.id)}: {self.error}")
        content = self.content
        if content is None and not is_remote(self.location):
            return load_image(self.location, spec, reduced=reduced)
        if content is None:
            content = read_file(self.location)
        return load_image(io.BytesIO(content), spec, reduced=reduced, name=shown_name(self.id))

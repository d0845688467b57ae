"""Store and search a gallery: `index.faiss`, its `files.json`, and the manifest `index.json`."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from gsp_deploy import __version__
from gsp_deploy.base.choices import GalleryKind
from gsp_deploy.base.file_names import require_utf8
from gsp_deploy.base.files import sha256_of
from gsp_deploy.base.folders import new_folder, stranger
from gsp_deploy.base.inputs import read_regular_text
from gsp_deploy.base.schema import from_data, from_fields
from gsp_deploy.base.scratch import settle
from gsp_deploy.errors import ModelFileError, UsageError, reason_of
from gsp_deploy.images.files import ImageFailure
from gsp_deploy.metrics import unit_rows
from gsp_deploy.retrieval.checked import check_names
from gsp_deploy.retrieval.gallery.trial import try_index
from gsp_deploy.retrieval.hits import Hit
from gsp_deploy.retrieval.identity import ModelIdentity
from gsp_deploy.retrieval.recall import Recall
from gsp_deploy.retrieval.trade import Trade

FORMAT_VERSION = 2
MANIFEST = "index.json"
INDEX = "index.faiss"
FILES = "files.json"
METRIC = "cosine"
KIND = "gallery"


@dataclass(frozen=True)
class _About:
    """The entries of `index.json` beside its format."""

    kind: GalleryKind
    metric: str
    images: int
    recall: Recall | None
    identity: ModelIdentity
    sha256: Mapping[str, str]
    made_by: str


@dataclass(frozen=True, eq=False)
class Gallery:
    """Indexed embeddings and the image files that they belong to.

    Attributes:
        index: faiss's index of unit vectors, by inner product.
        files: the images, in the index's order.
        identity: the model that embedded them.
        kind: `flat`, `hnsw`, `ivf` or `ivf-pq`.
        recall: how much of the exact result an approximate index finds, measured when it was
            built, on queries that it did not contain; None for an exact index.
        failures: images that could not be read when the index was built.
        trade: the settings that were tried for a wanted recall, when the index was built.
    """

    index: Any
    files: tuple[str, ...]
    identity: ModelIdentity
    kind: GalleryKind = "flat"
    recall: Recall | None = None
    failures: tuple[ImageFailure, ...] = ()
    trade: Trade | None = None

    def search(
        self, model: ModelIdentity, embeddings: np.ndarray, k: int
    ) -> tuple[list[list[Hit]], str | None]:
        """Return the `k` nearest images of each embedding, best first, and a warning or None.

        Args:
            model: the model of the embeddings; `identity_of` returns it for an open session.
            embeddings: float32 `(n, D)`.
            k: number of images; a gallery with fewer images returns all of them.

        Raises:
            UsageError: the model may not search this gallery, or `k` is below 1.
        """
        warning = self.identity.warn_or_refuse(model)
        if k < 1:
            raise UsageError(f"expected at least 1 result, got {k}")
        cosines, places = self.nearest(embeddings, k)
        hits = [
            [
                Hit(rank, float(cosine), self.files[place])
                for rank, (cosine, place) in enumerate(zip(row, found, strict=True), 1)
                if place >= 0  # an approximate index that finds fewer than k adds -1
            ]
            for row, found in zip(cosines, places, strict=True)
        ]
        return hits, warning

    def nearest(self, embeddings: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Return cosines and rows of `files` of the `k` nearest images, `(n, k)` each, best first.

        It compares no identities. A row is -1 if an approximate index finds fewer than `k`.

        Raises:
            ModelFileError: the index finds an image that it does not have.
        """
        cosines, places = self.index.search(unit_length(embeddings), min(k, len(self.files)))
        if len(places) and not -1 <= places.min() <= places.max() < len(self.files):
            raise ModelFileError(f"{INDEX} finds images that the gallery lacks; index again")
        return cosines, places


def unit_length(embeddings: np.ndarray) -> np.ndarray:
    """Return embeddings of length 1, as float32, so that their inner product is their cosine."""
    return unit_rows(np.ascontiguousarray(embeddings, dtype=np.float32))


def write_gallery(gallery: Gallery, folder: Path, *, force: bool = False) -> None:
    """Write a gallery, whole or not at all.

    Raises:
        UsageError: the folder exists and may not be replaced, or is not a gallery, or its path is
            not UTF-8, which faiss needs.
        OutputError: the folder cannot be written.
    """
    require_utf8(folder)
    with new_folder(
        folder, force=force, known_by=MANIFEST, kind=KIND, foreign=foreign_file
    ) as fresh:
        faiss.write_index(gallery.index, str(fresh / INDEX))
        (fresh / FILES).write_text(json.dumps(gallery.files, indent=0) + "\n", encoding="utf-8")
        about = _About(
            kind=gallery.kind,
            metric=METRIC,
            images=len(gallery.files),
            recall=gallery.recall,
            identity=gallery.identity,
            sha256={name: sha256_of(fresh / name) for name in (INDEX, FILES)},
            made_by=f"gsp-deploy {__version__}, faiss {faiss.__version__}",
        )
        text = json.dumps({"format": FORMAT_VERSION, **asdict(about)}, indent=2)
        (fresh / MANIFEST).write_text(text + "\n", encoding="utf-8")


def foreign_file(folder: Path) -> str | None:
    """Return the first entry of a gallery's folder beside its three files, or None."""
    return stranger(folder, (MANIFEST, INDEX, FILES))


def open_gallery(folder: str | os.PathLike[str], *, to_change: bool = False) -> Gallery:
    """Open a gallery on disk and check its hashes.

    The index is mapped into memory: the system reads the parts that a search needs, and gives their
    memory back when it is short. So a gallery may be larger than the memory. Commands that replace
    the gallery leave the mapped file as it is; a program that writes into it does not.

    faiss does not protect itself against hostile files, so a process of its own reads and searches
    the index first; a file that crashes it is a damaged gallery. This stops damage and most
    attacks, and not every one: prefer galleries from sources that you trust.

    Args:
        folder: the gallery.
        to_change: read the index into memory, because a mapped one cannot grow.

    Raises:
        ModelFileError: the folder is not a gallery, or is damaged.
    """
    source = Path(folder)
    require_utf8(source)
    settle(source)
    try:
        about = _about(source)
        for name in (INDEX, FILES):
            if sha256_of(source / name) != about.sha256[name]:
                raise ModelFileError(
                    f"{source / name}: not the file that {MANIFEST} describes; index again"
                )
        listed = json.loads(read_regular_text(source / FILES))
        files = from_data(tuple[str, ...], listed, FILES)
        check_names(files, FILES)
        found = try_index(source / INDEX)
        length = about.identity.embedding_dim
        if found != (about.images, length) or len(files) != about.images:
            raise ModelFileError(
                f"{source}: expected {about.images} embeddings of {length}-D, found "
                f"{found[0]} of {found[1]}-D for {len(files)} files; index again"
            )
        index = faiss.read_index(str(source / INDEX), 0 if to_change else faiss.IO_FLAG_MMAP_IFC)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise ModelFileError(
            f"{source}: the gallery is damaged ({reason_of(error)}); index again"
        ) from error
    return Gallery(index, files, about.identity, about.kind, about.recall)


def _about(folder: Path) -> _About:
    """Read `index.json`; an entry of the wrong type raises ConfigError, a ValueError."""
    path = folder / MANIFEST
    try:
        data = json.loads(read_regular_text(path))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelFileError(
            f"{folder}: not a gallery, because {MANIFEST} cannot be read; make one with "
            "gsp-deploy index"
        ) from error
    if not isinstance(data, dict) or data.pop("format", None) != FORMAT_VERSION:
        raise ModelFileError(f"{path}: not a gallery of format {FORMAT_VERSION}; index again")
    return from_fields(_About, data)

"""Recognise stored embeddings by their path, without the packages that read them."""

from __future__ import annotations

from pathlib import Path

MANIFEST = "_manifest.json"
SUFFIXES = (".npy", ".npz", ".parquet")


def holds_embeddings(path: Path) -> bool:
    """Whether a path is something that `open_embeddings` may read, by its name and kind.

    A folder counts if it has the manifest of a data set.
    """
    return path.suffix in SUFFIXES if path.is_file() else (path / MANIFEST).is_file()

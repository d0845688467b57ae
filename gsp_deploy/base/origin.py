"""Recognise the files that gsp-deploy made, since `--force` replaces no others.

Each kind of output has a mark inside, or a second file beside it. An empty file may be replaced,
because nothing is lost.
"""

from __future__ import annotations

import json
import mmap
import zipfile
from collections.abc import Callable
from pathlib import Path

from gsp_deploy.base.inputs import open_regular

# The mark in pictures and pages; models have the package's name in their metadata instead.
MARK = "made by gsp-deploy"
_ONNX_MAGIC = b"\x08"  # tag of the field `ir_version`, the first in the file
# The mark is in a picture's text chunks or a page's head, within this many bytes of the start.
_HEAD_BYTES = 4096
# One key each from the documents of `--json`, an engine's manifest, and an export's manifest.
_DOCUMENT_KEYS = (b'"document"', b'"engine_format"', b'"pooling_form"')
_TABLE = {"ids.npy", "embeddings.npy"}


def made_here(path: Path) -> bool:
    """Whether a regular file has the mark that gsp-deploy writes into files with its suffix."""
    if not path.is_file():
        return False
    if path.stat().st_size == 0:
        return True
    try:
        return _TESTS.get(path.suffix.lower(), _is_unknown)(path)
    except (OSError, ValueError, AttributeError, zipfile.BadZipFile):
        return False


def _has_mark_in_head(path: Path) -> bool:
    with open_regular(path) as stream:
        return MARK.encode() in stream.read(_HEAD_BYTES)


def _mentions(path: Path, magic: bytes, words: bytes) -> bool:
    """Whether a file begins with its format's first bytes and contains these words."""
    with open_regular(path) as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as m:
        return m[: len(magic)] == magic and m.find(words) >= 0


def _is_checkpoint(path: Path) -> bool:
    with open_regular(path) as stream:
        length = int.from_bytes(stream.read(8), "little")
        if length > path.stat().st_size:
            return False
        header = json.loads(stream.read(length))
    return "gsp_deploy" in header.get("__metadata__", {})


def _has_manifest(path: Path) -> bool:
    beside = path.with_name(f"{path.name}.json")
    return beside.is_file() and _is_document(beside)


def _is_model(path: Path) -> bool:
    return _has_manifest(path) or _mentions(path, _ONNX_MAGIC, b"gsp_deploy.manifest")


def _are_weights_beside(path: Path) -> bool:
    model = path.with_suffix("")
    return model.is_file() and _is_model(model)


def _is_document(path: Path) -> bool:
    with open_regular(path) as stream:
        text = stream.read()
    return any(key in text for key in _DOCUMENT_KEYS)


def _is_table_of_embeddings(path: Path) -> bool:
    with zipfile.ZipFile(path) as archive:
        return set(archive.namelist()) >= _TABLE


def _has_its_ids(path: Path) -> bool:
    return path.with_suffix(".ids.txt").is_file()


def _is_list_of_ids(path: Path) -> bool:
    return path.name.endswith(".ids.txt") and (
        path.with_name(f"{path.name.removesuffix('.ids.txt')}.npy").is_file()
    )


def _is_unknown(path: Path) -> bool:
    return False


_TESTS: dict[str, Callable[[Path], bool]] = {
    ".onnx": _is_model,
    ".data": _are_weights_beside,
    ".safetensors": _is_checkpoint,
    ".engine": _has_manifest,
    ".plan": _has_manifest,
    ".json": _is_document,
    ".npy": _has_its_ids,
    ".txt": _is_list_of_ids,
    ".npz": _is_table_of_embeddings,
    ".parquet": lambda path: _mentions(path, b"PAR1", b"gsp_deploy"),
    **dict.fromkeys((".png", ".jpg", ".jpeg", ".html", ".htm", ".md"), _has_mark_in_head),
}

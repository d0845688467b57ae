"""Whether a file was made by this tool: what `--force` may replace, and what it never does.

Each kind of output is known by a mark inside, or by the file that is written beside it. An empty
file holds nothing to lose.
"""

from __future__ import annotations

import json
import mmap
import zipfile
from collections.abc import Callable
from pathlib import Path

from gsp_deploy.base.inputs import open_regular

# In pictures and pages; metadata of models has the package's name instead.
MARK = "made by gsp-deploy"
_ONNX_MAGIC = b"\x08"  # the field of the format's version, which comes first
# A picture's texts and a page's head come first, within this many bytes.
_HEAD_BYTES = 4096
# Of what `--json` prints, of an engine's manifest, and of an export's.
_DOCUMENT_KEYS = (b'"document"', b'"engine_format"', b'"pooling_form"')
_TABLE = {"ids.npy", "embeddings.npy"}


def made_here(path: Path) -> bool:
    """Whether a regular file bears the mark of what this tool writes under such a suffix."""
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
    """Whether a file begins with its format's first bytes and has these words in it."""
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
    return _has_manifest(path) or _mentions(path, _ONNX_MAGIC, b"gsp_deploy.artifact")


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

"""List the files that an ONNX graph keeps its weights in, without the onnx package.

ONNX calls them external data. If a tensor's `data_location` is EXTERNAL, its `external_data` names
the file, relative to the graph's folder. The graph is read as protobuf, field by field, and only
the fields that can contain such a tensor; no weights are parsed.

Protobuf reads some bytes in a way that no writer uses: it cuts numbers to 32 bits, and merges two
tensors in one field. A graph with such bytes is refused, because its runtime could see a tensor
that this module does not.
"""

from __future__ import annotations

import mmap
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gsp_deploy.base.names import is_inside
from gsp_deploy.errors import ModelFileError, brief

# Numbers of the fields of onnx.proto that lead to tensors, by message.
_LEADS_TO: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
}
# Fields with one tensor; a second one would be merged with the first.
_ONCE: dict[str, frozenset[int]] = {"attribute": frozenset({5}), "sparse": frozenset({1, 2})}
_EXTERNAL_DATA, _DATA_LOCATION, _EXTERNAL = 13, 14, 1
_LARGEST_TAG = (1 << 32) - 1
_KEY = b"location"
_KEY_FIELD, _VALUE_FIELD = 1, 2
_DEEPEST = 100  # as deep as protobuf itself reads
_VARINT, _EIGHT_BYTES, _BYTES, _FOUR_BYTES = 0, 1, 2, 5
_LONGEST_VARINT = 10

_Data = bytes | mmap.mmap
# A field: its number, and the start and end of its bytes, or its value if it is a number.
_Field = tuple[int, int, int, int]


def external_data_of(model: Path) -> tuple[Path, ...]:
    """Return the files that an ONNX graph keeps its weights in, sorted; none for most graphs.

    A file may be a link, as in a download cache. Its name must stay below the graph's folder, and
    it must lead to a regular file.

    Raises:
        ModelFileError: the graph is not a whole protobuf message, a name leads out of its folder,
            or a file is missing or is not a regular file.
        OSError: the graph cannot be read.
    """
    files = []
    for name in _names_in(model):
        if not is_inside(name):
            raise ModelFileError(
                f"{model}: its weights must be in a file below its own folder, and it names "
                f"{brief(name)}; export it again"
            )
        file = model.parent / name
        if not file.is_file():
            raise ModelFileError(
                f"{model} keeps its weights in {name}, which is missing beside it; "
                "move both files together"
            )
        files.append(file)
    return tuple(files)


def mentions(model: Path, word: str) -> bool:
    """Whether a graph's file contains a word, such as the name of an operator.

    Raises:
        OSError: the file cannot be read.
    """
    with model.open("rb") as stream:
        if not stream.seek(0, 2):
            return False  # mmap refuses an empty file
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return data.find(word.encode()) >= 0


@contextmanager
def without_links(model: Path) -> Iterator[Path]:
    """Yield a path to the model with its weights as plain files beside it, not links.

    onnx and onnx_ir refuse weights that are links, because they cannot know who made them. If a
    model has any, as in a download cache, this function copies it until the block ends.

    Raises:
        ModelFileError: as `external_data_of` does.
    """
    files, folder = external_data_of(model), model.parent.resolve()
    if all(file.resolve() == folder / file.relative_to(model.parent) for file in files):
        yield model
        return
    with tempfile.TemporaryDirectory(prefix="gsp-weights-") as copy:
        for file in (model, *files):
            target = Path(copy) / file.relative_to(model.parent)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)
        yield Path(copy) / model.name


def _names_in(model: Path) -> list[str]:
    with model.open("rb") as stream:
        if not stream.seek(0, 2):
            return []  # mmap refuses an empty file
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
            if data.find(_KEY) < 0:
                return []
            try:
                return sorted(set(_locations(data, "model", 0, len(data), 0)))
            except (ValueError, IndexError) as error:
                raise ModelFileError(f"{model}: not a whole ONNX file ({error})") from error


def _locations(data: _Data, message: str, start: int, end: int, depth: int) -> Iterator[str]:
    """Yield the names in one message; skip fields that cannot contain one."""
    if depth > _DEEPEST:
        raise ValueError(f"messages are more than {_DEEPEST} deep")
    if data.find(_KEY, start, end) < 0:
        return
    if message == "tensor":
        yield from _tensor_locations(data, start, end)
        return
    inner, once = _LEADS_TO[message], _ONCE.get(message, frozenset())
    seen: set[int] = set()
    for number, wire, first, last in _fields(data, start, end):
        if wire == _BYTES and number in inner:
            if number in once & seen:
                raise ValueError("two tensors where one belongs")
            seen.add(number)
            yield from _locations(data, inner[number], first, last, depth + 1)


def _tensor_locations(data: _Data, start: int, end: int) -> list[str]:
    names, is_external = [], False
    for number, wire, first, last in _fields(data, start, end):
        if number == _DATA_LOCATION and wire == _VARINT:
            if first > _EXTERNAL:
                raise ValueError("a tensor in an unknown place")
            is_external = first == _EXTERNAL
        elif number == _EXTERNAL_DATA and wire == _BYTES:
            key, value = b"", b""
            for part, kind, low, high in _fields(data, first, last):
                if kind == _BYTES and part == _KEY_FIELD:
                    key = data[low:high]
                elif kind == _BYTES and part == _VALUE_FIELD:
                    value = data[low:high]
            if key == _KEY:
                names.append(value.decode("utf-8", errors="surrogateescape"))
    return names if is_external else []


def _fields(data: _Data, start: int, end: int) -> Iterator[_Field]:
    """Yield number, wire type, and first and last byte, or the value twice, of each field."""
    at = start
    while at < end:
        tag, at = _varint(data, at, end)
        if tag > _LARGEST_TAG:
            raise ValueError("a field's number is too large")
        number, wire = tag >> 3, tag & 7
        if wire == _VARINT:
            value, at = _varint(data, at, end)
            yield number, wire, value, value
            continue
        if wire == _BYTES:
            size, at = _varint(data, at, end)
        elif wire in (_EIGHT_BYTES, _FOUR_BYTES):
            size = 8 if wire == _EIGHT_BYTES else 4
        else:
            raise ValueError(f"a field of wire type {wire}")
        if size > end - at:
            raise ValueError("a field is longer than what holds it")
        yield number, wire, at, at + size
        at += size


def _varint(data: _Data, at: int, end: int) -> tuple[int, int]:
    """Return a number and its end position."""
    value = 0
    for index in range(_LONGEST_VARINT):
        if at >= end:
            raise ValueError("it ends in the middle of a number")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return value, at
    raise ValueError("a number of more than 10 bytes")

"""Read the files of a multipart form from untrusted bytes, within limits."""

from __future__ import annotations

from dataclasses import dataclass, field

from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header

from gsp_deploy.errors import RequestError, brief, reason_of

LONGEST_NAME = 100
MOST_HEADERS = 16  # of one part
LONGEST_HEADER = 4096


@dataclass(frozen=True)
class Upload:
    """An uploaded image file: the client's name for it, and its bytes."""

    name: str
    content: bytes


def count_parts(body: bytes, content_type: str) -> int:
    """Return how many parts a form has at most, without reading them; at least 1."""
    boundary = parse_options_header(content_type)[1].get(b"boundary", b"")
    return max(body.count(b"--" + boundary) - 1, 1) if boundary else 1


def files_in_form(body: bytes, content_type: str, most: int) -> list[Upload]:
    """Return the files of a form in their order.

    Args:
        body: the form.
        content_type: the request's header, which names the boundary.
        most: parts that are read.

    Raises:
        RequestError: 400 if this is not a form or has no file, 413 if it has too many parts.
    """
    boundary = parse_options_header(content_type)[1].get(b"boundary")
    if not boundary:
        raise _unreadable("its Content-Type names no boundary")
    reader = _FormReader(most)
    try:
        parser = MultipartParser(boundary, reader.callbacks())  # type: ignore[arg-type]
        parser.write(body)
        parser.finalize()
    except (FormParserError, ValueError) as error:
        raise _unreadable(brief(reason_of(error))) from error
    if reader.parts and not reader.is_whole:
        raise _unreadable("it ends before its last boundary")
    if not reader.files:
        raise RequestError(400, "expected files in the form, as in curl -F image=@cat.jpg")
    return reader.files


@dataclass
class _FormReader:
    """Callbacks that python-multipart's parser calls for the form's parts."""

    most: int
    files: list[Upload] = field(default_factory=list)
    is_whole: bool = False
    parts: int = 0
    _headers: int = 0
    _name: bytearray = field(default_factory=bytearray)
    _value: bytearray = field(default_factory=bytearray)
    _disposition: bytes = b""
    _file_name: bytes | None = None
    _content: list[bytes] = field(default_factory=list)

    def callbacks(self) -> dict[str, object]:
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._header_name,
            "on_header_value": self._header_value,
            "on_header_end": self._header_end,
            "on_headers_finished": self._headers_end,
            "on_part_data": self._data,
            "on_part_end": self._end,
            "on_end": self._whole,
        }

    def _begin(self) -> None:
        self.parts += 1
        if self.parts > self.most:
            raise RequestError(
                413, f"expected at most {self.most} files in a form, got more parts; send fewer"
            )
        self._headers, self._disposition, self._file_name = 0, b"", None

    def _header_name(self, data: bytes, start: int, end: int) -> None:
        self._extend(self._name, data[start:end])

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._extend(self._value, data[start:end])

    def _extend(self, text: bytearray, more: bytes) -> None:
        if len(text) + len(more) > LONGEST_HEADER:
            raise _unreadable(f"a part's header is longer than {LONGEST_HEADER} bytes")
        text += more

    def _header_end(self) -> None:
        self._headers += 1
        if self._headers > MOST_HEADERS:
            raise _unreadable(f"a part has more than {MOST_HEADERS} headers")
        if self._name.lower() == b"content-disposition":
            self._disposition = bytes(self._value)
        self._name.clear()
        self._value.clear()

    def _headers_end(self) -> None:
        options = parse_options_header(self._disposition)[1]
        if b"name" not in options:
            raise _unreadable('a part\'s Content-Disposition has no "name"')
        self._file_name = options.get(b"filename")

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._file_name is not None:
            self._content.append(data[start:end])

    def _end(self) -> None:
        if self._file_name is not None:
            name = _one_line(self._file_name) or f"file {len(self.files) + 1}"
            self.files.append(Upload(name, b"".join(self._content)))
        self._content.clear()

    def _whole(self) -> None:
        self.is_whole = True


def _one_line(name: bytes) -> str:
    """Return a file's name as one line that can be shown."""
    text = name.decode("utf-8", "replace")
    return "".join(c for c in text if c.isprintable())[:LONGEST_NAME].strip()


def _unreadable(why: str) -> RequestError:
    return RequestError(400, f"the form cannot be read: {why}")

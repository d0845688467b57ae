"""Protocol buffers in text form, as `config.pbtxt` has them: mappings in, text out."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

INDENT = "  "


@dataclass(frozen=True)
class Word:
    """The name of an enumeration's value, which stands without quotes."""

    text: str


Value = str | int | bool | Word
Field = Value | Mapping[str, "Field"] | Sequence["Field"]


def to_pbtxt(message: Mapping[str, Field]) -> str:
    """Return a message as text: a mapping is a message, a sequence a field that repeats."""
    return "".join(f"{line}\n" for line in _lines(message, ""))


def entries(mapping: Mapping[str, Field]) -> list[Mapping[str, Field]]:
    """Return a protocol-buffer map, which in text is a repeated field of keys and values."""
    return [{"key": key, "value": value} for key, value in mapping.items()]


def _lines(message: Mapping[str, Field], indent: str) -> Iterator[str]:
    for name, field in message.items():
        repeats = isinstance(field, Sequence) and not isinstance(field, str)
        for value in field if repeats else (field,):  # type: ignore[union-attr]
            if isinstance(value, Mapping):
                yield f"{indent}{name} {{"
                yield from _lines(value, indent + INDENT)
                yield f"{indent}}}"
            else:
                yield f"{indent}{name}: {_scalar(value)}"


def _scalar(value: Field) -> str:
    if isinstance(value, Word):
        return value.text
    if isinstance(value, bool):
        return "true" if value else "false"
    return json.dumps(value)  # strings: the escapes of JSON without \\u, which names do not need

"""Write mappings as protocol buffers in text form, the format of `config.pbtxt`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

INDENT = "  "


@dataclass(frozen=True)
class Word:
    """The name of an enumeration value, written without quotes."""

    text: str


Value = str | int | bool | Word
Field = Value | Mapping[str, "Field"] | Sequence["Field"]


def to_pbtxt(message: Mapping[str, Field]) -> str:
    """Return a message as text: a mapping is a message, a sequence a repeated field.

    >>> print(to_pbtxt({"name": "tiny", "dims": [3, 224]}), end="")
    name: "tiny"
    dims: 3
    dims: 224
    """
    return "".join(f"{line}\n" for line in _lines(message, ""))


def entries(mapping: Mapping[str, Field]) -> list[Mapping[str, Field]]:
    """Return a protocol-buffer map: in text, a repeated field of keys and values.

    >>> entries({"a": 1})
    [{'key': 'a', 'value': 1}]
    """
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
    # JSON escapes strings like protocol buffers, except for \\u, which names do not need.
    return json.dumps(value)

"""Build dataclasses from plain JSON or TOML data, and check every value against its field's type.

Errors name the field, the expected type and the value.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from gsp_deploy.errors import ConfigError, GspDeployError, ModelFileError, brief, reason_of

T = TypeVar("T")
V = TypeVar("V")

# Deepest nesting of a field of type Any: no real document comes near it, and a hostile one cannot
# exhaust the stack.
_DEEPEST = 32
# Digits of a number that is a key: a signed 64-bit integer has at most 19.
_LONGEST_NUMBER = 19
_MODULES = re.compile(r"(\b[a-z_]+\.)+")


@dataclass(frozen=True)
class DocumentFormat:
    """One kind of JSON document: the entry that identifies it, and the words for its errors.

    Attributes:
        mark: the entry that identifies the kind; its value is the version.
        version: the version that this package reads.
        kind: the kind with its indefinite article, such as `an engine's manifest`.
        name: the kind with its definite article, such as `the engine's manifest`.
        remedy: what the reader should do if the document has another version.
    """

    mark: str
    version: int
    kind: str
    name: str
    remedy: str

    def to_text(self, data: Mapping[str, Any]) -> str:
        """Return the document as indented JSON with sorted keys."""
        return json.dumps({self.mark: self.version, **data}, indent=2, sort_keys=True)

    def from_text(
        self, text: str, source: str | os.PathLike[str], build: Callable[[dict[str, Any]], T]
    ) -> T:
        """Call `build` with the document's entries, without the mark, and return its result.

        Raises:
            ModelFileError: the text is not such a document, or `build` finds it damaged; the
                message names `source`.
        """
        try:
            data = json.loads(text)
            if not isinstance(data, dict) or data.pop(self.mark, None) != self.version:
                raise ModelFileError(
                    f"{source}: not {self.kind} of format {self.version}; {self.remedy}"
                )
            return build(data)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise ModelFileError(
                f"{source}: {self.name} is damaged ({reason_of(error)})"
            ) from error


def from_fields(cls: type[T], data: Mapping[str, Any]) -> T:
    """Construct a dataclass, and the dataclasses in its fields, from plain data.

    A field may be a dataclass, a tuple or mapping of dataclasses, optional, a `Literal`, or a
    union of dataclasses that each have a `KIND`; the data's entry `kind` then selects one. If a
    field's value in files without it differs from its default, the class gives that value in
    `UNNAMED`. A value that already has its field's type is used unchanged.

    Raises:
        ConfigError: a key is not a field, a field without a default is missing, or a value has
            the wrong type. NaN and infinity do not count as numbers.
    """
    data = {**getattr(cls, "UNNAMED", {}), **data}
    known = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    if unknown := sorted(set(data) - set(known), key=str):
        raise ConfigError(
            f"{cls.__name__} has no setting {brief(unknown[0])}; it knows {', '.join(known)}"
        )
    hints = get_type_hints(cls)
    fields, wrong = dict(data), None
    for name, value in data.items():
        try:
            fields[name] = _read(value, hints[name], name)
        except _MismatchError:
            wrong = (
                wrong or f"{cls.__name__}.{name} must be {_named(hints[name])}, got {_got(value)}"
            )
    if missing := [name for name, f in known.items() if name not in data and _is_needed(f)]:
        raise ConfigError(f"{cls.__name__} needs {', '.join(map(repr, missing))}, which is missing")
    if wrong is None:
        return cls(**fields)
    try:
        cls(**fields)  # the class's own checks give a better message
    except GspDeployError:
        raise
    except (TypeError, ValueError, AttributeError, LookupError, OverflowError) as error:
        raise ConfigError(wrong) from error
    raise ConfigError(wrong)


def from_data(hint: Any, value: Any, name: str) -> Any:
    """Return one value of plain data as the type in `hint`; errors call the value `name`.

    Raises:
        ConfigError: the value has another type.

    >>> from_data(tuple[int, ...], [1, 2], "sizes")
    (1, 2)
    """
    try:
        return _read(value, hint, name)
    except _MismatchError as error:
        raise ConfigError(f"{name} must be {_named(hint)}, got {_got(value)}") from error


def _is_needed(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _got(value: object) -> str:
    return f"{brief(value)} ({type(value).__name__})"


def _named(hint: Any) -> str:
    text = getattr(hint, "__name__", str(hint)) if get_origin(hint) is None else str(hint)
    return _MODULES.sub("", text)


class _MismatchError(Exception):
    """A value does not have its field's annotated type."""


def _read(value: Any, hint: Any, name: str) -> Any:
    """Return a value as the type in `hint`, or raise `_MismatchError`."""
    origin = get_origin(hint)
    if hint is Any:
        return _plain(value)
    if origin in (Union, UnionType):
        return _read_union(value, get_args(hint), name)
    if origin is Literal:
        allowed = (word for word in get_args(hint) if _same_type(value, word))
        return _checked(value, any(value == word for word in allowed))
    if origin is tuple:
        return _read_tuple(value, get_args(hint), name)
    if origin is not None and issubclass(origin, Mapping):
        return _read_mapping(value, get_args(hint), name)
    if dataclasses.is_dataclass(hint):
        return _read_dataclass(value, hint, name)  # type: ignore[arg-type]
    if hint is float:
        return _checked(value, _is_number(value))
    if hint is int:
        return _checked(value, isinstance(value, int) and not isinstance(value, bool))
    return _checked(value, isinstance(value, NoneType if hint is None else hint))


def _read_union(value: Any, parts: tuple[Any, ...], name: str) -> Any:
    if value is None and NoneType in parts:
        return None
    records = {part.KIND: part for part in parts if hasattr(part, "KIND")}
    if records and not isinstance(value, tuple(records.values())):
        fields = dict(_table(value, name, " or ".join(c.__name__ for c in records.values())))
        kind = fields.pop("kind", None)
        if not isinstance(kind, str) or kind not in records:
            expected = ", ".join(records)
            raise ConfigError(f"{name} kind must be one of {expected}, got {brief(kind)}")
        return from_fields(records[kind], fields)
    for part in parts:
        try:
            return _read(value, part, name)
        except _MismatchError:
            continue
    raise _MismatchError


def _read_dataclass(value: Any, cls: type[Any], name: str) -> Any:
    return value if isinstance(value, cls) else from_fields(cls, _table(value, name, cls.__name__))


def _read_tuple(value: Any, parts: tuple[Any, ...], name: str) -> tuple[Any, ...]:
    _checked(value, isinstance(value, (tuple, list)))
    if parts[-1] is Ellipsis:
        return tuple(_read(item, parts[0], name) for item in value)
    _checked(value, len(value) == len(parts))
    return tuple(_read(item, part, name) for item, part in zip(value, parts, strict=True))


def _read_mapping(value: Any, parts: tuple[Any, Any], name: str) -> dict[Any, Any]:
    _checked(value, isinstance(value, Mapping))
    return {_key(key, parts[0]): _read(item, parts[1], name) for key, item in value.items()}


def _key(key: Any, hint: Any) -> Any:
    """Return an entry's key; JSON writes a whole number as text."""
    if hint is int and isinstance(key, str) and key.isdecimal() and len(key) < _LONGEST_NUMBER:
        return int(key)
    return _read(key, hint, "key")


def _table(value: Any, name: str, kind: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ConfigError(f"{name} must be a table of {kind}'s settings, got {_got(value)}")
    return value


def _plain(value: Any) -> Any:
    """Return the value of an `Any` field, or raise `_MismatchError` if it is nested too deep."""
    layer = [value]
    for _ in range(_DEEPEST):
        layer = [
            inner
            for item in layer
            if isinstance(item, (Mapping, list, tuple))
            for inner in (item.values() if isinstance(item, Mapping) else item)
        ]
        if not layer:
            return value
    raise _MismatchError


def _is_number(value: Any) -> bool:
    """Whether a value is a finite number that fits a float; whole numbers count."""
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def _same_type(value: Any, word: Any) -> bool:
    return type(value) is type(word)


def _checked(value: V, fits: bool) -> V:
    if not fits:
        raise _MismatchError
    return value

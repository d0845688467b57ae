"""From plain data, as JSON and TOML give it, to dataclasses whose fields hold what they say."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from gsp_deploy.errors import ConfigError, ModelFileError, brief, reason_of

T = TypeVar("T")


@dataclass(frozen=True)
class DocumentFormat:
    """One kind of JSON document: what tells it from others, and what is said of one that is wrong.

    Attributes:
        mark: the entry that holds the version, by which the kind is known.
        version: the one version that is read.
        kind: what it is, with its article, such as `an engine's manifest`.
        name: what the one at hand is called, such as `the engine's manifest`.
        remedy: what to do with one of another version.
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
        """Return what `build` makes of the document's entries, the mark left out.

        Raises:
            ModelFileError: the text is no such document, or `build` finds it damaged; `source`
                names it.
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
    """Construct a dataclass from a mapping, naming what is unknown, missing or of another type.

    Raises:
        ConfigError: a key is not a field of `cls`, a field without a default is missing, or a
            value is not of its field's type.
    """
    known = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    if unknown := sorted(set(data) - set(known)):
        raise ConfigError(
            f"{cls.__name__} has no setting {brief(unknown[0])}; it knows {', '.join(known)}"
        )
    missing = [
        name
        for name, f in known.items()
        if name not in data
        and f.default is dataclasses.MISSING
        and f.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise ConfigError(f"{cls.__name__} needs the setting {missing[0]!r}, which is missing")
    made = cls(**data)  # first, since a class's own checks say more
    _check_types(made)
    return made


def _check_types(made: object) -> None:
    for name, hint in get_type_hints(type(made)).items():
        value = getattr(made, name)
        if not _fits(value, hint):
            kind = getattr(hint, "__name__", str(hint))
            raise ConfigError(f"{type(made).__name__}.{name} must be {kind}, got {brief(value)}")


def _fits(value: object, hint: Any) -> bool:
    """Whether a value is of an annotated type; whole numbers pass for float, lists for tuple."""
    origin, parts = get_origin(hint), get_args(hint)
    if hint is Any:
        return True
    if origin in (Union, UnionType):
        return any(_fits(value, part) for part in parts)
    if origin is Literal:
        return value in parts
    if origin is tuple:
        kinds = {part for part in parts if part is not Ellipsis}
        return isinstance(value, (tuple, list)) and all(
            any(_fits(item, kind) for kind in kinds) for item in value
        )
    if origin is not None and issubclass(origin, Mapping):
        return isinstance(value, Mapping) and all(
            _fits(key, parts[0]) and _fits(item, parts[1]) for key, item in value.items()
        )
    if hint in (int, float):
        wanted = int if hint is int else (int, float)
        return isinstance(value, wanted) and not isinstance(value, bool)
    return isinstance(value, NoneType if hint is None else hint)

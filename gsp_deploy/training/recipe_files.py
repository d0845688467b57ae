"""Read recipe files: TOML that can extend another file and depend on the kind of data set.

extends = "mlrc-bn-inception.toml"   # beside this file; the settings below replace its settings
# extends = "mlrc-bn-inception"      # a recipe from the package

[data]
spec = "cub:data/CUB_200_2011"

[on.sop.gsp]                         # applies if data.spec is sop:PATH
num_prototypes = 128
"""

from __future__ import annotations

import copy
import os
import sys
from collections.abc import Iterable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from gsp_deploy.base.inputs import read_regular_text
from gsp_deploy.base.settings import setting_of
from gsp_deploy.data import KINDS, kind_of
from gsp_deploy.errors import ConfigError, brief, reason_of
from gsp_deploy.training.recipe import TAGGED, Recipe, parse_recipe

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_EXTENDS, _ON = "extends", "on"
# Two settings give the length of a run; the last one given counts.
_LENGTHS = {"epochs", "steps"}

Tables = dict[str, Any]


def load_recipe(path: str | os.PathLike[str], overrides: Iterable[str] = ()) -> Recipe:
    """Read a recipe and apply overrides of the form `section.key=value`, values as in TOML.

    A bare name such as `glyphs-quick` means the package's recipe with that name.

    Later settings replace earlier ones, in this order: the extended file, the file itself, its
    `[on.KIND]` tables for the kind of data set in use, and the overrides.

    Raises:
        ConfigError: a file is missing or not TOML, or a setting is unknown, missing or outside
            its domain; the message names the key.

    >>> load_recipe("glyphs-quick", ["run.seed=3"]).run.seed
    3
    """
    overrides = list(overrides)
    data, by_kind = _read(_found(Path(path), Path()), ())
    data = _merged(data, by_kind.get(_kind_in_use(data, overrides), {}))
    for override in overrides:
        _apply(data, override)
    return parse_recipe(data, source=str(path))


def _found(name: Path, folder: Path) -> Path:
    """Return the recipe in the folder, or the package's if a bare name is not a file there."""
    path, shipped = folder / name, _shipped() / f"{name.name}.toml"
    is_bare = name.name == str(name) and not name.suffix
    return shipped if is_bare and not path.exists() and shipped.is_file() else path


def _shipped() -> Path:
    """Return the folder of the package's own recipes."""
    return Path(str(files("gsp_deploy_models")))


def tables_of(text: str, source: str) -> Tables:
    """Parse TOML. Raises `ConfigError` with the line and column of a mistake."""
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigError(f"{source}: not a TOML recipe ({reason_of(error)})") from error


def _read(path: Path, extending: tuple[Path, ...]) -> tuple[Tables, Tables]:
    """Return a file's sections and its `on` tables, merged over those of the file it extends."""
    data = tables_of(_text(path, extending), str(path))
    base, by_kind = data.pop(_EXTENDS, None), data.pop(_ON, {})
    _check_kinds(by_kind, path)
    if base is None:
        return data, by_kind
    if not isinstance(base, str) or not base.isprintable():
        raise ConfigError(f"{path}: extends must be the name of a recipe file, got {brief(base)}")
    chain = (*extending, path.resolve())
    target = _found(Path(base), path.parent)
    if target.resolve() in chain:
        raise ConfigError(
            f"{path}: extends {base}, which extends this file again, directly or through others; "
            "remove one extends"
        )
    below, below_by_kind = _read(target, chain)
    kinds = {**below_by_kind, **by_kind}
    return _merged(below, data), {
        kind: _merged(below_by_kind.get(kind, {}), by_kind.get(kind, {})) for kind in kinds
    }


def _text(path: Path, extending: tuple[Path, ...]) -> str:
    try:
        return read_regular_text(path)
    except FileNotFoundError as error:
        where = f" that {extending[-1].name} extends" if extending else ""
        names = ", ".join(sorted(file.stem for file in _shipped().glob("*.toml")))
        raise ConfigError(
            f"{path}: no such recipe{where}; pass a file, or one of {names} (without .toml)"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not a TOML recipe ({reason_of(error)})") from error


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> Tables:
    """Merge sections key by key; a loss, miner or schedule of another kind replaces the old one."""
    merged = copy.deepcopy(dict(below))
    for name, table in above.items():
        under = merged.get(name)
        if not isinstance(table, Mapping) or not isinstance(under, dict):
            merged[name] = copy.deepcopy(table)
            continue
        if name in TAGGED and table.get("kind", under.get("kind")) != under.get("kind"):
            under.clear()
        if _LENGTHS & table.keys():
            _drop_length(under)
        under.update(copy.deepcopy(dict(table)))
    return merged


def _check_kinds(by_kind: object, path: Path) -> None:
    """Raise `ConfigError` if an `[on.KIND]` names an unknown kind."""
    known = [kind.name for kind in KINDS]
    if not isinstance(by_kind, Mapping) or not all(
        isinstance(table, Mapping) for table in by_kind.values()
    ):
        raise ConfigError(f"{path}: on: expected tables such as [on.{known[0]}.run]")
    for kind in by_kind:
        if kind not in known:
            raise ConfigError(
                f"{path}: on.{kind}: there is no such kind of data set; the kinds are "
                f"{', '.join(known)}"
            )


def _kind_in_use(data: Tables, overrides: list[str]) -> str:
    """Return the kind of data set after the overrides, or '' if none is named."""
    data = copy.deepcopy(data)
    for override in overrides:
        _apply(data, override)
    section = data.get("data")
    spec = section.get("spec") if isinstance(section, dict) else None
    return kind_of(spec) if isinstance(spec, str) else ""


def _apply(data: Tables, override: str) -> None:
    """Set one key in the recipe's tables; create missing tables.

    A loss, miner or schedule of another kind starts without the old one's settings.
    """
    *tables, key = override.partition("=")[0].strip().split(".")
    if "=" not in override or not tables or not key:
        raise ConfigError(f"expected section.key=value, got {override!r}")
    _, value = setting_of(override)
    table: Any = data
    for part in tables:
        table = table.setdefault(part, {})
        if not isinstance(table, dict):
            raise ConfigError(f"{override!r}: {part} is not a table of settings")
    if key in _LENGTHS:
        _drop_length(table)
    if key == "kind" and tables[0] in TAGGED and table.get("kind") != value:
        table.clear()
    table[key] = value


def _drop_length(section: Tables) -> None:
    for name in _LENGTHS:
        section.pop(name, None)

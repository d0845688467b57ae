"""`gsp-deploy inspect`: print what a file contains."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from gsp_deploy_cli.options.common import Json
from gsp_deploy_cli.options.inputs import existing_file
from gsp_deploy_cli.tables import show

# A whole one would be broken over two lines.
HASH_DIGITS = 16


def inspect(
    file: Annotated[
        Path,
        typer.Argument(
            help="A checkpoint, an exported model, an engine or a manifest.",
            callback=existing_file,
        ),
    ],
    json: Json = False,
) -> None:
    """Print what a model file contains: config, shapes, certificate, operators."""
    from gsp_deploy.inspection import inspect_file

    found = inspect_file(file)
    if json:
        show.document("inspect", found.to_dict())
        return
    rows = [
        ("kind", found.kind),
        ("size", f"{found.size:,} bytes"),
        ("sha256", f"{found.sha256[:HASH_DIGITS]} (whole with --json)"),
        *_lines(found.facts),
    ]
    show.facts(str(file), rows)
    for warning in found.warnings:
        show.remark(warning)


def _lines(facts: Mapping[str, Any], indent: str = "") -> Iterator[tuple[str, str]]:
    """Flatten nested sections into lines; short tables stay on one."""
    for name, value in facts.items():
        if value is None or value == {}:
            continue
        if isinstance(value, Mapping) and any(isinstance(v, Mapping) for v in value.values()):
            yield f"{indent}{name}", ""
            yield from _lines(value, indent + "  ")
        else:
            yield f"{indent}{name}", _words(value)


def _words(value: Any) -> str:
    if isinstance(value, Mapping):
        filled = ((key, item) for key, item in value.items() if item is not None)
        return ", ".join(f"{key} {_words(item)}" for key, item in filled)
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, (list, tuple)):
        return ", ".join(_words(item) for item in value)
    return str(value)

"""The JSON documents and manifests that a report is made of: found, told apart, and read."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from gsp_deploy.benchmark import BenchmarkReport, read_report
from gsp_deploy.engine.manifest import ENGINE_SUFFIXES, EngineManifest
from gsp_deploy.errors import DataError, GspDeployError, reason_of
from gsp_deploy.manifest import ExportManifest
from gsp_deploy.report.checks import Check, Evaluated

T = TypeVar("T")


@dataclass(frozen=True)
class Artifact:
    """A model file that has a manifest: its name, and one of the two kinds of manifest."""

    name: str
    export: ExportManifest | None = None
    engine: EngineManifest | None = None


@dataclass(frozen=True)
class Documents:
    """What was found, each kind in the order of the files' names.

    Attributes:
        artifacts: of the manifests.
        checks: parity of one artifact each.
        benchmarks: latency of several models each.
        evaluations: retrieval metrics of one or several models each.
    """

    artifacts: tuple[Artifact, ...] = ()
    checks: tuple[Check, ...] = ()
    benchmarks: tuple[BenchmarkReport, ...] = ()
    evaluations: tuple[Evaluated, ...] = ()


@dataclass
class _Found:
    artifacts: list[Artifact] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    benchmarks: list[BenchmarkReport] = field(default_factory=list)
    evaluations: list[Evaluated] = field(default_factory=list)


def read_documents(paths: Iterable[Path]) -> Documents:
    """Read JSON files, and all those of ours that lie in folders.

    A file that is named must be a document that a report shows; in a folder others are passed
    over, damaged ones of ours are not.

    Raises:
        DataError: a path does not exist, a file is damaged or of no use, or nothing was found.
    """
    found = _Found()
    for path in paths:
        if path.is_dir():
            for file in sorted(path.rglob("*.json")):
                _add(file, found)
        elif not path.is_file():
            raise DataError(f"{path}: no such file or folder")
        elif not _add(path, found):
            raise DataError(
                f"{path}: expected a manifest, or what `check`, `evaluate` or `bench` print with "
                "--json"
            )
    if not any(vars(found).values()):
        raise DataError(
            "nothing to report: no manifest, and no document of `check`, `bench` or `evaluate`"
        )
    return Documents(**{name: tuple(items) for name, items in vars(found).items()})


def _add(path: Path, found: _Found) -> bool:
    """Read one file into `found`; return whether it is a document that a report shows."""
    model = path.name.removesuffix(".json")
    if model.endswith(".onnx"):
        manifest = ExportManifest.from_json(_text(path), path)
        found.artifacts.append(Artifact(model, export=manifest))
        return True
    if model.endswith(ENGINE_SUFFIXES):
        engine = EngineManifest.from_json(_text(path), path)
        found.artifacts.append(Artifact(model, engine=engine))
        return True
    data = _json(path)
    kind = data.get("document") if isinstance(data, dict) else None
    if kind == "check":
        found.checks.append(_read(Check.from_document, data, path))
    elif kind == "evaluate":
        found.evaluations.append(_read(Evaluated.from_document, data, path))
    elif kind == "bench":
        found.benchmarks.append(read_report(path))
    else:
        return False
    return True


def _read(reader: Callable[[Mapping[str, Any]], T], data: Mapping[str, Any], path: Path) -> T:
    try:
        return reader(data)
    except (KeyError, TypeError, ValueError, AttributeError, GspDeployError) as error:
        raise DataError(
            f"{path}: a damaged {data['document']!r} document ({reason_of(error)})"
        ) from error


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot read it ({reason_of(error)})") from error


def _json(path: Path) -> Any:
    try:
        return json.loads(_text(path))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not a whole JSON document ({reason_of(error)})") from error

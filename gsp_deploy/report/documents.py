"""Find and read the JSON documents and manifests for a report."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from gsp_deploy.artifact import ExportManifest
from gsp_deploy.artifact.artifact import Artifact
from gsp_deploy.artifact.engine_manifest import EngineManifest
from gsp_deploy.artifact.kind import kind_of
from gsp_deploy.base.inputs import read_regular_text
from gsp_deploy.benchmark import BenchmarkReport, read_report
from gsp_deploy.errors import DataError, reason_of
from gsp_deploy.parity.document import Check
from gsp_deploy.report.names import shortest_names
from gsp_deploy.retrieval.document import JOINED, Evaluated, Searched, read_search

T = TypeVar("T")


@dataclass(frozen=True)
class NamedArtifact(Artifact[ExportManifest | EngineManifest]):
    """A model with its manifest, and its name in the report."""

    name: str


@dataclass(frozen=True)
class Documents:
    """Everything that was found.

    Artifacts and checks are in the order of the benchmarks, the others in the order of reading.

    Attributes:
        artifacts: one entry per manifest.
        checks: each the parity of one artifact.
        benchmarks: each the latency of one or more models.
        evaluations: each the retrieval metrics of one or more models.
        searches: each a query of a gallery and its hits.
    """

    artifacts: tuple[NamedArtifact, ...] = ()
    checks: tuple[Check, ...] = ()
    benchmarks: tuple[BenchmarkReport, ...] = ()
    evaluations: tuple[Evaluated, ...] = ()
    searches: tuple[Searched, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The name of every artifact in the documents, in the order of all tables and charts."""
        measured = [model.name for report in self.benchmarks for model in report.models]
        checked = [check.name for check in self.checks]
        evaluated = [name for found in self.evaluations for name in found.models if name != JOINED]
        deployed = [artifact.name for artifact in self.artifacts]
        return tuple(dict.fromkeys([*measured, *deployed, *checked, *evaluated]))

    def checks_of(self, name: str) -> tuple[Check, ...]:
        """Return the checks of one artifact; there may be several, with different references."""
        return tuple(check for check in self.checks if check.name == name)


@dataclass
class _Found:
    artifacts: list[NamedArtifact] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    benchmarks: list[BenchmarkReport] = field(default_factory=list)
    evaluations: list[Evaluated] = field(default_factory=list)
    searches: list[Searched] = field(default_factory=list)


def read_documents(paths: Iterable[Path]) -> Documents:
    """Read JSON files, and every document of gsp-deploy in folders.

    If you name a file, it must be a document that a report shows. In a folder, other JSON files are
    skipped, but a damaged document of gsp-deploy is an error.

    Raises:
        DataError: a path does not exist, a file is damaged or not for a report, or nothing was
            found.
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
                f"{path}: expected a manifest, or the output of `check`, `evaluate`, `bench` or "
                "`search` with --json"
            )
    if not any(vars(found).values()):
        raise DataError(
            "nothing to report: expected a manifest, or the --json output of `check`, `bench`, "
            "`evaluate` or `search`"
        )
    return _ordered(_named(found))


def _named(found: _Found) -> Documents:
    """Name each artifact by the shortest end of its path that is unique within its kind."""
    artifacts = shortest_names([str(artifact.path) for artifact in found.artifacts])
    checks = shortest_names([check.path for check in found.checks])
    return Documents(
        tuple(replace(a, name=name) for a, name in zip(found.artifacts, artifacts, strict=True)),
        tuple(replace(check, name=name) for check, name in zip(found.checks, checks, strict=True)),
        tuple(_with_short_names(report) for report in found.benchmarks),
        tuple(found.evaluations),
        tuple(found.searches),
    )


def _with_short_names(report: BenchmarkReport) -> BenchmarkReport:
    names = shortest_names([model.name for model in report.models])
    models = (replace(m, name=name) for m, name in zip(report.models, names, strict=True))
    return replace(report, models=tuple(models))


def _ordered(documents: Documents) -> Documents:
    place = {name: index for index, name in enumerate(documents.names)}
    artifacts = sorted(documents.artifacts, key=lambda artifact: place[artifact.name])
    checks = sorted(documents.checks, key=lambda check: place[check.name])
    return replace(documents, artifacts=tuple(artifacts), checks=tuple(checks))


def _add(path: Path, found: _Found) -> bool:
    """Read one file into `found`; return False if it is not a document for a report."""
    model = path.with_suffix("")
    kind = kind_of(model)
    if kind is not None and kind.document is not None:
        manifest = kind.parse_manifest(_text(path), path)
        found.artifacts.append(NamedArtifact(model, kind, manifest, model.name))
        return True
    data = _json(path)
    document = data.get("document") if isinstance(data, dict) else None
    if document == "check":
        found.checks.append(_read(Check.from_document, data, path))
    elif document == "evaluate":
        found.evaluations.append(_read(Evaluated.from_document, data, path))
    elif document == "search":
        found.searches += _read(read_search, data, path)
    elif document == "bench":
        found.benchmarks.append(read_report(path))
    else:
        return False
    return True


def _read(reader: Callable[[Mapping[str, Any]], T], data: Mapping[str, Any], path: Path) -> T:
    try:
        return reader(data)
    except (LookupError, TypeError, ValueError, OverflowError, AttributeError) as error:
        raise DataError(
            f"{path}: a damaged {data['document']!r} document ({reason_of(error)})"
        ) from error


def _text(path: Path) -> str:
    try:
        return read_regular_text(path)
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot read it ({reason_of(error)})") from error


def _json(path: Path) -> Any:
    try:
        return json.loads(_text(path))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not a whole JSON document ({reason_of(error)})") from error

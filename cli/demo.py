"""`gsp-deploy demo`: run every deployment step once, and print the results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gsp_deploy.base.words import counted
from gsp_deploy_cli.options.common import Force, Json
from gsp_deploy_cli.tables import show

if TYPE_CHECKING:
    from gsp_deploy.artifact.artifact import Artifact
    from gsp_deploy.benchmark.report import ModelResult
    from gsp_deploy.demo import DemoReport
    from gsp_deploy.metrics import RetrievalMetrics
    from gsp_deploy.parity import ParityReport

NEXT = (
    ("export it", "gsp-deploy export model.safetensors -o model.onnx"),
    ("prove it", "gsp-deploy check model.safetensors model.onnx --images photos/"),
    ("on your GPU", "gsp-deploy build model.onnx -o model.engine"),
)


def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for all results.")] = Path(
        "gsp-demo"
    ),
    classes: Annotated[int, typer.Option(min=2, help="Number of unseen classes to test on.")] = 30,
    images_per_class: Annotated[int, typer.Option(min=2, help="Test images of each class.")] = 8,
    force: Force = False,
    json: Json = False,
) -> None:
    """Deploy the shipped checkpoint: export, check, bench, build, search. No GPU, no download."""
    from gsp_deploy.demo import run_demo
    from gsp_deploy.errors import GateError

    report = run_demo(
        output,
        classes=classes,
        images_per_class=images_per_class,
        force=force,
        announce=show.note,
    )
    if json:
        show.document("demo", _document(report))
    else:
        _report(report)
    if not report.passed:
        failed = [r.candidate.path.name for r in report.parity if not r.passed]
        raise GateError(f"parity gates failed for {', '.join(failed)}")


def _document(report: DemoReport) -> dict[str, Any]:
    return {
        "folder": str(report.folder),
        "images": report.images,
        "classes": report.classes,
        "retrieval": report.retrieval.to_dict(),
        "average_pooling": report.twin.to_dict(),
        "artifacts": [str(export.path) for export in report.exports],
        "parity": [parity.to_dict() for parity in report.parity],
        "benchmark": report.benchmark.to_dict(),
        "engine": None if report.engine is None else str(report.engine.path),
        "gallery": str(report.gallery),
        "query": str(report.query),
        "hits": [asdict(hit) for hit in report.hits],
        "report": str(report.page),
    }


def _report(report: DemoReport) -> None:
    from gsp_deploy.demo import VARIANTS

    titles = [artifact.title for artifact in VARIANTS]
    show.out.print()
    show.facts("Deployed and proven", _deployed(report))
    show.out.print()
    show.table(
        "Why GSP: the same network, trained alike",
        ["pooling", "R@1", "MAP@R", *(f"time, {batch}" for batch in _batches(report))],
        _pooling_rows(report),
    )
    show.table(
        "Parity with the PyTorch checkpoint, worst image",
        ["artifact", "1 - cos", "w error", "flips", "dMAP@R", "gates"],
        [_parity_row(title, parity) for title, parity in zip(titles, report.parity, strict=True)],
    )
    show.table(
        f"Latency, p50 in ms, {_threads(report)}, ONNX Runtime CPU",
        ["artifact", *_latency_columns(report)],
        [_latency_row(t, m) for t, m in zip(titles, report.benchmark.models, strict=True)],
    )
    for note in report.benchmark.notes:
        show.remark(note)
    show.out.print("w error: mixing weights, relative to their spread. x GAP: time relative to the")
    show.out.print("same network with average pooling, run in turns.")
    if report.engine is not None:
        show.table(
            "Engine, built without a GPU and not run",
            ["for", "precision", "layers", "size", "built in"],
            [_engine_row(report.engine)],
        )
    show.out.print()
    show.facts("Files", _files(report, titles))
    show.out.print()
    show.facts("Next, with your own checkpoint", NEXT)


def _deployed(report: DemoReport) -> list[tuple[str, str]]:
    classes = counted(report.classes, "class", "classes")
    return [
        ("model", _model(report)),
        ("images", f"{report.images} of {classes} that it never saw"),
    ]


def _pooling_rows(report: DemoReport) -> list[list[str]]:
    """Return a row for GSP and one for average pooling: what each finds, and its relative time."""
    costs = [result.pooling_cost for result in report.benchmark.models[0].batches]
    ratios = ["" if cost is None else f"{cost.ratio:.2f}" for cost in costs]
    return [
        ["GSP", *_shares(report.retrieval), *ratios],
        ["average", *_shares(report.twin), *("1" for _ in costs)],
    ]


def _shares(found: RetrievalMetrics) -> list[str]:
    return [f"{100 * share:.1f} %" for share in (found.recall_at[1], found.map_at_r)]


def _batches(report: DemoReport) -> list[str]:
    return [f"batch {batch}" for batch in report.benchmark.settings.batches]


def _files(report: DemoReport, titles: Sequence[str]) -> list[tuple[str, str]]:
    exported = zip(titles, report.exports, strict=True)
    return [
        *((title, str(export.path)) for title, export in exported),
        *(() if report.engine is None else (("engine", str(report.engine.path)),)),
        ("gallery", str(report.gallery)),
        ("images", str(report.folder / "images")),
        ("benchmark", str(report.folder / "benchmark.json")),
        ("report", str(report.page)),
    ]


def _engine_row(engine: Artifact) -> list[str]:
    from gsp_deploy.engine.targets import sm_of

    manifest = engine.manifest
    return [
        ", ".join(sm_of(capability) for capability in manifest.compute_capabilities),
        manifest.precision.asked,
        f"{manifest.layers}",
        f"{manifest.plan_bytes / 2**20:.1f} MiB",
        f"{manifest.build_seconds:.1f} s",
    ]


def _threads(report: DemoReport) -> str:
    return counted(report.benchmark.settings.threads or 1, "thread")


def _model(report: DemoReport) -> str:
    manifest = report.exports[0].manifest
    certificate = manifest.certificate
    model = f"{manifest.model.backbone} + GSP"
    if certificate is None:
        return model
    return f"{model}, {certificate.steps_in_words}"


def _parity_row(title: str, parity: ParityReport) -> list[str]:
    figures = parity.figures
    retrieval = figures.retrieval
    assert retrieval is not None
    return [
        title,
        f"{figures.cosine.maximum:.1e}",
        "" if figures.weights is None else f"{figures.weights.relative.maximum:.1e}",
        f"{retrieval.flips}/{retrieval.queries}",
        f"{100 * retrieval.map_change:+.2f}",
        "pass" if parity.passed else "FAIL",
    ]


def _latency_columns(report: DemoReport) -> list[str]:
    return [column for batch in _batches(report) for column in (batch, "x GAP")]


def _latency_row(title: str, model: ModelResult) -> list[str]:
    cells = [title]
    for result in model.batches:
        cost = result.pooling_cost
        cells += [f"{result.latency.p50:.2f}", "" if cost is None else f"{cost.ratio:.2f}"]
    return cells

"""A small demo: the folder contains everything it promises, and nothing else is touched."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from gsp_deploy.artifact import read_sidecar
from gsp_deploy.artifact.engine_manifest import check_plan
from gsp_deploy.demo import ENGINE_TARGETS, HITS, VARIANTS, DemoReport, run_demo
from gsp_deploy.engine.api import installed_flavours
from gsp_deploy.errors import UsageError
from gsp_deploy.images.files import name_with_folder
from gsp_deploy.retrieval.gallery import open_gallery
from gsp_deploy_cli.main import main


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> DemoReport:
    folder = tmp_path_factory.mktemp("demo") / "out"
    return run_demo(folder, classes=12, images_per_class=4, rounds=2)


def test_the_folder_contains_every_artifact_with_its_manifest(report: DemoReport) -> None:
    for artifact, exported in zip(VARIANTS, report.exports, strict=True):
        assert exported.path == report.folder / artifact.file
        assert read_sidecar(exported.path) == exported.manifest
    assert report.exports[1].manifest.certificate.steps == 100


def test_float32_artifacts_equal_the_checkpoint(report: DemoReport) -> None:
    for parity in report.parity:
        if parity.candidate.precision == "fp32":
            assert parity.passed
            assert parity.figures.cosine.maximum < 1e-8


def test_gsp_finds_more_among_distractors_than_its_twin(run, report: DemoReport) -> None:
    assert report.retrieval.recall_at[1] > report.twin.recall_at[1]
    assert report.retrieval.map_at_r > report.twin.map_at_r
    _, out, _ = run()
    for name, found in (("GSP", report.retrieval), ("average", report.twin)):
        cells = next(line.replace("│", " ").split() for line in out.splitlines()
                     if line.startswith(f"│ {name}"))  # fmt: skip
        assert cells[1:3] == [f"{100 * found.recall_at[1]:.1f}", "%"]


def test_every_artifact_was_measured(report: DemoReport) -> None:
    assert [model.name for model in report.benchmark.models] == [a.file for a in VARIANTS]
    for model in report.benchmark.models:
        assert all(result.pooling_cost is not None for result in model.batches)


def test_the_gallery_contains_every_image_except_the_query(report: DemoReport) -> None:
    gallery = open_gallery(report.gallery)
    assert (report.images, report.classes) == (48, 12)
    assert len(gallery.files) == 47
    assert str(report.query) not in gallery.files


def test_the_search_finds_images_and_the_page_shows_them(report: DemoReport) -> None:
    assert len(report.hits) == HITS
    cosines = [hit.cosine for hit in report.hits]
    assert cosines == sorted(cosines, reverse=True)
    page = report.page.read_text(encoding="utf-8")
    assert '<section id="search">' in page
    assert page.count(f'alt="{name_with_folder(report.hits[0].file)}"') >= 1


def test_the_engine_is_a_real_plan_for_two_gpus(report: DemoReport) -> None:
    if "tensorrt-rtx" not in installed_flavours():
        assert report.engine is None
        return
    assert report.engine is not None
    assert report.engine.manifest.compute_capabilities == ENGINE_TARGETS
    assert report.engine.manifest.layers > 20
    check_plan(report.engine.manifest, report.engine.path)


def test_the_page_shows_every_artifact(report: DemoReport) -> None:
    page = report.page.read_text(encoding="utf-8")
    assert all(f"{artifact.file}</th>" in page for artifact in VARIANTS)
    assert "What the pooling keeps" in page


def test_an_earlier_demo_is_replaced_only_with_force(report: DemoReport) -> None:
    with pytest.raises(UsageError, match="--force"):
        run_demo(report.folder)


@pytest.mark.parametrize(
    "name", ["thesis.txt", "images/holiday.jpg", "images/test/mine/cat.png", "gallery/notes.txt"]
)
def test_a_file_of_another_hand_in_a_demo_is_kept(tmp_path: Path, name: str) -> None:
    (tmp_path / "demo.json").write_text("{}")
    mine = tmp_path / name
    mine.parent.mkdir(parents=True, exist_ok=True)
    mine.write_text("precious")
    for force in (False, True):
        with pytest.raises(UsageError, match=f"contains {name}, which the demo did not make"):
            run_demo(tmp_path, force=force)
    assert mine.read_text() == "precious"


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(UsageError, match="no earlier demo"):
        run_demo(tmp_path, force=True)
    assert (tmp_path / "thesis.txt").read_text() == "precious"


@pytest.fixture
def run(report: DemoReport, monkeypatch: pytest.MonkeyPatch, capsys):
    """Return a function that runs the command with the work already done: exit code, stdout,
    stderr. What it would have worked on is in `run.asked`.
    """

    def run(*words: str, found: DemoReport = report) -> tuple[int, str, str]:
        def ended(folder: Path, **options: object) -> DemoReport:
            run.asked = {"folder": folder, **options}
            return found

        monkeypatch.setattr("gsp_deploy.demo.run_demo", ended)
        monkeypatch.setattr(sys, "argv", ["gsp-deploy", "demo", *words])
        with pytest.raises(SystemExit) as stop:
            main()
        printed = capsys.readouterr()
        return int(stop.value.code or 0), printed.out, printed.err

    return run


def test_the_commands_options_reach_the_demo(run) -> None:
    run("-o", "here", "--classes", "5", "--images-per-class", "4", "--force")
    del run.asked["announce"]
    assert run.asked == {
        "folder": Path("here"), "classes": 5, "images_per_class": 4, "force": True,
    }  # fmt: skip


def test_the_document_is_all_of_the_report(run, report: DemoReport) -> None:
    code, out, _ = run("--json")
    document = json.loads(out)
    assert (code, document["document"]) == (0, "demo")
    assert (document["classes"], document["images"]) == (12, 48)
    assert all(Path(file).is_file() for file in (*document["artifacts"], document["report"]))
    assert [parity["passed"] for parity in document["parity"]] == [True] * len(VARIANTS)
    assert document["retrieval"] == report.retrieval.to_dict()
    assert document["average_pooling"] == report.twin.to_dict()
    assert document["benchmark"] == json.loads(json.dumps(report.benchmark.to_dict()))


def test_every_artifact_has_its_figures_in_both_tables_and_its_file(run, report) -> None:
    code, out, _ = run()
    assert code == 0
    lines = [" ".join(line.replace("│", " ").split()) for line in out.splitlines()]
    whole = "".join(out.split())
    for artifact, parity, model, export in zip(
        VARIANTS, report.parity, report.benchmark.models, report.exports, strict=True
    ):
        of_it = [line.removeprefix(artifact.title).split() for line in lines
                 if line.startswith(artifact.title)]  # fmt: skip
        errors, times, _ = of_it
        assert float(errors[0]) == pytest.approx(parity.figures.cosine.maximum, rel=0.05)
        assert errors[-3] == f"{parity.figures.retrieval.flips}/48"
        assert errors[-1] == "pass"
        for result, shown in zip(model.batches, times[::2], strict=True):
            assert math.isclose(float(shown), result.latency.p50, abs_tol=0.006)
        assert "".join(f"{artifact.title}{export.path}".split()) in whole  # a long path is folded
    steps = report.exports[0].manifest.certificate.steps
    points = report.exports[0].manifest.certificate.grid_points
    assert f"model small_cnn_s8 + GSP, certified, {points} points and {steps} steps" in lines
    assert "images 48 of 12 classes that it never saw" in lines


def test_a_failed_gate_ends_in_its_exit_code_after_the_tables(run, report: DemoReport) -> None:
    first = report.parity[0]
    gate = replace(first.gates[0], value=1e9)
    failed = replace(first, gates=(gate, *first.gates[1:]))
    code, out, err = run(found=replace(report, parity=(failed, *report.parity[1:])))
    assert code == 3
    assert out.count("FAIL") == 1
    assert err.splitlines()[-1] == f"error: parity gates failed for {VARIANTS[0].file}"

"""`gsp-deploy bench`: what it prints, saves, refuses, and the codes it ends with."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from gsp_deploy import EmbeddingModel, GSPConfig, ModelConfig
from gsp_deploy.benchmark import BenchmarkReport, read_report
from gsp_deploy.errors import GateError, UsageError
from gsp_deploy.export import ExportOptions, export_onnx
from gsp_deploy_cli.main import app

BRIEF = ("--repeats", "3", "--warmup", "1", "--threads", "1", "--no-memory")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A head alone, exported: it opens and runs in no time."""
    path = tmp_path_factory.mktemp("head") / "head.onnx"
    head = GSPConfig(8, embedding_dim=4, num_prototypes=2, solver="newton")
    export_onnx(
        EmbeddingModel(ModelConfig("features", head, None)), path, ExportOptions(iterations=2)
    )
    return path


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["bench", *map(str, arguments)])


def document(result: Result) -> dict:
    assert result.exception is None, result.exception
    data: dict = json.loads(result.stdout)
    return data


def slower(report: BenchmarkReport, factor: float) -> BenchmarkReport:
    """The same result with a costlier pooling."""
    (model,) = report.models
    results = [
        replace(r, pooling_cost=replace(r.pooling_cost, ratio=r.pooling_cost.ratio * factor))
        for r in model.batches
    ]
    return replace(report, models=(replace(model, batches=tuple(results)),))


def test_tables_fit_eighty_columns_and_hold_the_conditions(model: Path) -> None:
    result = run(model, "--batch", "1,8", *BRIEF)
    assert result.exception is None
    assert max(len(line.rstrip()) for line in result.stdout.splitlines()) <= 80
    words = " ".join(result.stdout.split())
    for expected in (
        "Latency of one inference",
        "p50 ┃ p90 ┃ p95 ┃ p99 ┃ max ┃ img/s",
        "Against the same network with average pooling (GAP)",
        "threads: 1; 1 round of warm-up, 3 counted",
        "copies none, the runtime works in host memory",
        "features, certified, ",
    ):
        assert expected in words


def test_json_is_one_versioned_document_on_stdout(model: Path) -> None:
    data = document(run(model, "--batch", "1,8", "--json", *BRIEF))
    assert (data["document"], data["version"]) == ("bench", 1)
    assert data["settings"]["batches"] == [1, 8]
    assert data["settings"]["threads"] == 1
    (found,) = data["models"]
    assert found["name"] == "head.onnx"
    assert found["head"]["num_prototypes"] == 2
    for result in found["batches"]:
        latency = result["latency"]
        assert latency["rounds"] == 3
        assert latency["min"] <= latency["p50"] <= latency["p90"] <= latency["max"]
        assert result["pooling_cost"]["ratio"] > 0
        assert result["copies"] is None


def test_saves_what_it_prints(model: Path, tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    data = document(run(model, "--json", "--save", path, *BRIEF))
    assert json.loads(path.read_text()) == data
    again = run(model, "--save", path, *BRIEF)
    assert isinstance(again.exception, UsageError)
    assert "--force" in str(again.exception)


def test_compares_with_a_saved_result(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "result.json"
    run(model, "--save", path, *BRIEF)
    old = read_report(path)

    monkeypatch.setattr("gsp_deploy.benchmark.run_benchmark", lambda *_, **__: slower(old, 1.2))
    data = document(run(model, "--compare", path, "--max-regression", "25%", "--json", *BRIEF))
    assert data["comparison"]["passed"] is True
    assert data["comparison"]["changes"][0]["measure"] == "ratio to GAP"
    assert data["comparison"]["changes"][0]["relative"] == pytest.approx(0.2)

    failed = run(model, "--compare", path, "--max-regression", "0.1", "--json", *BRIEF)
    assert isinstance(failed.exception, GateError)
    assert failed.exception.exit_code == 3
    assert json.loads(failed.stdout)["comparison"]["passed"] is False


def test_refuses_other_settings_before_measuring(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "result.json"
    run(model, "--save", path, *BRIEF)

    def must_not_run(*_: object, **__: object) -> None:
        raise AssertionError("measured although the settings differ")

    monkeypatch.setattr("gsp_deploy.benchmark.run_benchmark", must_not_run)
    result = run(model, "--compare", path, "--batch", "2", *BRIEF)
    assert isinstance(result.exception, UsageError)
    assert "batches was 1, now it is 2" in str(result.exception)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--batch", "one"), "--batch takes whole numbers, as in 1,8, got 'one'"),
        (("--batch", "0"), "batch sizes must be at least 1"),
        (("--size", "7"), "size must be height and width"),
        (("--max-regression", "much"), "--max-regression takes a share"),
        (("--max-regression", "-5%"), "--max-regression takes a share"),
        (("--compare", "nowhere.json"), "nowhere.json: no such file or folder"),
    ],
)
def test_misuse_is_one_line(model: Path, arguments: tuple[str, ...], words: str) -> None:
    result = run(model, *arguments, *BRIEF)
    assert isinstance(result.exception, UsageError)
    assert words in str(result.exception)
    assert "\n" not in str(result.exception)


def test_importing_the_command_imports_no_runtime() -> None:
    script = (
        "import sys, gsp_deploy_cli.bench; "
        "sys.exit(any(name in sys.modules for name in ('torch', 'onnxruntime', 'numpy')))"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0

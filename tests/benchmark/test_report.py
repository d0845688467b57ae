"""Saved results: they read back equal, and damaged ones are refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gsp_deploy.benchmark import BenchmarkSettings, read_report
from gsp_deploy.errors import UsageError

SETTINGS = BenchmarkSettings(batches=(1, 8), repeats=10, size=(7, 7), memory=False)


def test_a_saved_report_reads_back_equal(fake_run, tmp_path: Path) -> None:
    report = fake_run(SETTINGS, a=range(1, 30), b=[4])
    path = tmp_path / "result.json"
    report.save(path)
    assert read_report(path) == report


def test_the_document_names_its_kind_and_version(fake_run, tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    fake_run(SETTINGS, a=[1]).save(path)
    data = json.loads(path.read_text())
    assert (data["document"], data["version"]) == ("bench", 1)
    assert set(data) == {
        "document", "version", "settings", "environment", "load_average", "included", "models",
        "notes",
    }  # fmt: skip
    assert data["settings"]["batches"] == [1, 8]
    assert {"processor", "cores", "system", "python", "packages"} == set(data["environment"])
    (model,) = data["models"]
    assert model["name"] == "a.onnx"
    assert len(model["sha256"]) == 64
    assert set(model["batches"][0]["latency"]) == {
        "rounds", "min", "p50", "p90", "p95", "p99", "max",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "not a whole JSON document"),
        ("[]", "expected a 'bench' document"),
        ('{"document": "check", "version": 1}', "expected a 'bench' document"),
        ('{"document": "bench", "version": 2}', "expected a 'bench' document"),
        ('{"document": "bench", "version": 1}', "damaged benchmark result"),
        (
            '{"document": "bench", "version": 1, "settings": {"batches": [0]}}',
            "damaged benchmark result .*at least 1",
        ),
    ],
)
def test_a_file_that_is_no_result_is_refused(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "old.json"
    path.write_text(text)
    with pytest.raises(UsageError, match=rf"old.json: .*{words}"):
        read_report(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"nothing.json: cannot read it"):
        read_report(tmp_path / "nothing.json")

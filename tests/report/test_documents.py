"""Documents: they are recognised and read, and damaged ones are refused."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest

from gsp_deploy.errors import DataError, GspDeployError
from gsp_deploy.report import read_documents

EVALUATION = {
    "document": "evaluate",
    "version": 1,
    "dataset": "glyphs",
    "images": 8,
    "classes": 2,
    "models": {"a.onnx": {"recall_at_1": 0.5, "map_at_r": 0.25}},
    "concatenated": None,
}


def test_a_folder_gives_all_documents_and_skips_other_files(deployed: Path) -> None:
    found = read_documents([deployed])
    assert [artifact.name for artifact in found.artifacts] == ["model.onnx"]
    assert [check.name for check in found.checks] == ["model.onnx"]
    assert found.checks[0].passed
    assert found.checks[0].reference == "model.safetensors"
    assert sum(found.checks[0].cosine.counts) == 12
    assert found.checks[0].change_of("map_at_r") == pytest.approx(0, abs=1e-9)
    assert len(found.benchmarks) == 1


def test_rows_are_in_the_order_of_the_benchmark(many: Callable[[int], Path]) -> None:
    folder = many(3)
    bench = json.loads((folder / "bench.json").read_text())
    bench["models"].reverse()
    (folder / "bench.json").write_text(json.dumps(bench))
    found = read_documents([folder])
    expected = ("model-02.onnx", "model-01.onnx", "model-00.onnx")
    assert found.names == expected
    assert tuple(artifact.name for artifact in found.artifacts) == expected
    assert tuple(check.name for check in found.checks) == expected


def test_an_evaluation_is_read(tmp_path: Path) -> None:
    (tmp_path / "evaluate.json").write_text(json.dumps(EVALUATION))
    (found,) = read_documents([tmp_path / "evaluate.json"]).evaluations
    assert found.models["a.onnx"]["map_at_r"] == 0.25


def test_a_search_is_read(tmp_path: Path) -> None:
    hits = [{"rank": 1, "cosine": 0.75, "file": "a/2.png"}]
    document = {"document": "search", "version": 1, "results": [{"query": "a/1.png", "hits": hits}]}
    (tmp_path / "search.json").write_text(json.dumps(document))
    (found,) = read_documents([tmp_path / "search.json"]).searches
    assert (found.query, found.hits[0].file, found.hits[0].cosine) == ("a/1.png", "a/2.png", 0.75)


def test_a_named_file_must_be_a_document(deployed: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected a manifest"):
        read_documents([deployed / "thesis.json"])
    with pytest.raises(DataError, match="no such file"):
        read_documents([tmp_path / "missing"])
    with pytest.raises(DataError, match="nothing to report"):
        read_documents([tmp_path])


@pytest.mark.parametrize("name", ["check.json", "bench.json", "model.onnx.json"])
def test_damaged_documents_get_one_line(name: str, deployed: Path, tmp_path: Path) -> None:
    whole = (deployed / name).read_text()
    for damaged in (whole[: len(whole) // 2], "[]", "\0"):
        (tmp_path / name).write_text(damaged)
        with pytest.raises(GspDeployError) as caught:
            read_documents([tmp_path / name])
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("key", ["gates", "candidate", "cosine_distance", "images"])
def test_a_check_that_lacks_a_part_is_damaged(key: str, deployed: Path, tmp_path: Path) -> None:
    document = json.loads((deployed / "check.json").read_text())
    del document[key]
    (tmp_path / "check.json").write_text(json.dumps(document))
    with pytest.raises(DataError, match="a damaged 'check' document"):
        read_documents([tmp_path])


@pytest.mark.parametrize(
    "models",
    [
        {},
        {"a.onnx": {"recall_at_1": 0.5}, "b.onnx": {"map_at_r": 0.25}},
        {"a.onnx": {"recall_at_1": "half"}},
        {"a.onnx": {"recall_at_few": 0.5}},
        {"a.onnx": 0.5},
    ],
)
def test_an_evaluation_with_different_metrics_by_model_is_damaged(
    models: dict[str, object], tmp_path: Path
) -> None:
    (tmp_path / "evaluate.json").write_text(json.dumps({**EVALUATION, "models": models}))
    with pytest.raises(DataError, match="a damaged 'evaluate' document"):
        read_documents([tmp_path])


@pytest.mark.parametrize(
    "damage",
    [
        {"overlap_at": {"10": "most"}},
        {"overlap_at": {"many": 1.0}},
        {"candidate": {"map_at_r": []}},
    ],
)
def test_a_check_with_shares_that_are_not_numbers_is_damaged(
    damage: dict[str, object], deployed: Path, tmp_path: Path
) -> None:
    document = json.loads((deployed / "check.json").read_text())
    document["retrieval"].update(damage)
    (tmp_path / "check.json").write_text(json.dumps(document))
    with pytest.raises(DataError, match="a damaged 'check' document"):
        read_documents([tmp_path])


@pytest.mark.parametrize(
    ("part", "value"), [("counts", -1), ("counts", math.inf), ("edges", 0.0), ("edges", 1e9)]
)
def test_an_impossible_histogram_is_damaged(
    part: str, value: float, deployed: Path, tmp_path: Path
) -> None:
    document = json.loads((deployed / "check.json").read_text())
    document["cosine_distance"]["histogram"][part][0] = value
    (tmp_path / "check.json").write_text(json.dumps(document))
    with pytest.raises(DataError, match="a damaged 'check' document"):
        read_documents([tmp_path])


def test_a_benchmark_without_valid_models_is_damaged(deployed: Path, tmp_path: Path) -> None:
    document = json.loads((deployed / "bench.json").read_text())
    (tmp_path / "bench.json").write_text(json.dumps({**document, "models": "x"}))
    with pytest.raises(GspDeployError, match="a damaged benchmark result"):
        read_documents([tmp_path])

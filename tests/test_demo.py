"""The demo, small: everything it promises lies in the folder, and nothing else is touched."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gsp_deploy.demo import ARTIFACTS, DemoReport, run_demo
from gsp_deploy.errors import UsageError
from gsp_deploy.manifest import read_sidecar


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> DemoReport:
    folder = tmp_path_factory.mktemp("demo") / "out"
    return run_demo(folder, classes=3, images_per_class=3, rounds=2)


def test_the_folder_holds_every_artifact_with_its_manifest(report: DemoReport) -> None:
    for artifact, exported in zip(ARTIFACTS, report.exports, strict=True):
        assert exported.path == report.folder / artifact.file
        assert read_sidecar(exported.path) == exported.manifest
    assert report.exports[1].manifest.certificate.steps == 100


def test_float32_artifacts_equal_the_checkpoint(report: DemoReport) -> None:
    for parity in report.parity:
        if parity.candidate.precision == "fp32":
            assert parity.passed
            assert parity.figures.cosine.maximum < 1e-8


def test_every_artifact_was_measured(report: DemoReport) -> None:
    assert [model.name for model in report.benchmark.models] == [a.file for a in ARTIFACTS]
    for model in report.benchmark.models:
        assert all(result.pooling_cost is not None for result in model.batches)


def test_the_gallery_has_a_row_an_image(report: DemoReport) -> None:
    embeddings = np.load(report.gallery)
    assert (report.images, report.classes) == (9, 3)
    assert embeddings.shape == (9, report.exports[0].manifest.model.head.embedding_dim)
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, atol=1e-5)


def test_the_page_tells_of_every_artifact(report: DemoReport) -> None:
    page = report.page.read_text(encoding="utf-8")
    assert all(f"<td>{artifact.file}</td>" in page for artifact in ARTIFACTS)
    assert "What the pooling keeps" in page


def test_an_earlier_demo_is_replaced_only_when_told(report: DemoReport) -> None:
    with pytest.raises(UsageError, match="--force"):
        run_demo(report.folder)


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(UsageError, match="no earlier demo"):
        run_demo(tmp_path, force=True)
    assert (tmp_path / "thesis.txt").read_text() == "precious"

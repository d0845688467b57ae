"""Whole comparisons: identical models pass, changed ones fail at the gate meant for it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gsp_deploy.config import PreprocessingSpec
from gsp_deploy.errors import DataError, GateError, UsageError
from gsp_deploy.images.files import find_images
from gsp_deploy.parity import (
    ParityReport,
    compare_files,
    compare_sessions,
    image_reader,
    open_rounding,
    tolerances_for,
)
from gsp_deploy.runtime import open_session

Outputs = Mapping[str, np.ndarray]
Session = Callable[..., object]
PROJECTION = np.random.default_rng(4).standard_normal((6 * 6 * 3, 4))
LABELS = ["cat", "dog"] * 10


def honest(images: np.ndarray) -> dict[str, np.ndarray]:
    """Outputs of the shape that GSP's have, with weights from 0.99 to 1.01 as at gamma = 0.1."""
    rows = images.reshape(len(images), -1) / 255.0
    embedding = np.stack([row @ PROJECTION for row in rows])
    level = images[:, ::2, ::2, 0].astype(float)
    spread = np.ptp(level, axis=(1, 2), keepdims=True)
    weights = 1 + 0.02 * (level - level.mean(axis=(1, 2), keepdims=True)) / np.maximum(spread, 1)
    attributes = np.abs(embedding) / np.abs(embedding).sum(axis=1, keepdims=True).clip(1e-9)
    return {"embedding": embedding, "attributes": attributes, "weights": weights}


def changed(**changes: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray], Outputs]:
    def compute(images: np.ndarray) -> Outputs:
        found = honest(images)
        return {**found, **{name: change(found[name]) for name, change in changes.items()}}

    return compute


def one_location_off(weights: np.ndarray) -> np.ndarray:
    moved = weights.copy()
    moved[:, 1, 1] += 2e-3
    moved[:, 2, 2] -= 2e-3
    return moved


def failed(report: ParityReport) -> set[str]:
    return {gate.name for gate in report.gates if not gate.passed}


def test_a_model_equals_itself(fake: Session, pixels: np.ndarray) -> None:
    report = compare_sessions(fake(honest), fake(honest), pixels, LABELS)
    assert report.passed
    report.raise_on_failure()
    assert len(report.gates) == 12
    assert {gate.value for gate in report.gates if not gate.is_minimum} <= {0.0} | {
        gate.value for gate in report.gates if gate.name == "max_marginal_error"
    }
    assert report.figures.retrieval is not None
    assert report.figures.retrieval.recall_change == 0
    assert report.figures.notes == ()


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_weights_wrong_by_a_tenth_of_their_spread_fail(
    fake: Session, pixels: np.ndarray, precision: str
) -> None:
    """The trap of fp16: 2e-3 beside weights of 1 passes any plain tolerance, and the marginal."""
    candidate = fake(changed(weights=one_location_off), precision=precision)
    report = compare_sessions(fake(honest), candidate, pixels)
    assert failed(report) == {"max_weight_error"}
    assert report.figures.outputs[-1].absolute.maximum == pytest.approx(2e-3, rel=1e-3)


@pytest.mark.parametrize(
    ("compute", "gates"),
    [
        (changed(weights=lambda w: w * 0.99), {"max_weight_error", "max_marginal_error"}),
        (changed(attributes=lambda a: a * 1.2), {"max_attribute_error"}),
        (changed(embedding=lambda e: e * 1.2), {"max_embedding_error"}),
        (
            changed(embedding=lambda e: e * np.where(np.arange(len(e)) == 2, 1.2, 1)[:, None]),
            {"max_embedding_error", "max_batch_error"},
        ),
    ],
)
def test_each_kind_of_error_has_its_gate(
    fake: Session, pixels: np.ndarray, compute: object, gates: set[str]
) -> None:
    report = compare_sessions(fake(honest), fake(compute, precision="fp16"), pixels)
    assert failed(report) == gates


def test_neighbours_lost_fail_the_retrieval_gates(fake: Session, pixels: np.ndarray) -> None:
    turned = changed(embedding=lambda e: e[:, ::-1] * np.array([1, -3, 1, 0.2]))
    report = compare_sessions(fake(honest), fake(turned), pixels, LABELS)
    assert {"max_flips", "min_overlap", "max_cosine_distance"} <= failed(report)
    with pytest.raises(GateError, match=r"top-1 flips 0\.\d+, expected at most 0.05") as caught:
        report.raise_on_failure()
    assert caught.value.exit_code == 3


def test_a_share_of_few_images_is_one_image_but_none_is_none(
    fake: Session, pixels: np.ndarray
) -> None:
    def gate(limit: float) -> float:
        limits = tolerances_for("fp32", {"max_flips": limit})
        report = compare_sessions(fake(honest), fake(honest), pixels, tolerances=limits)
        return next(gate.limit for gate in report.gates if gate.name == "max_flips")

    assert gate(0.001) == pytest.approx(1 / 20)
    assert gate(0.2) == 0.2
    assert gate(0.0) == 0


def test_not_a_number_fails_and_is_counted(fake: Session, pixels: np.ndarray) -> None:
    def broken(images: np.ndarray) -> Outputs:
        return {**honest(images), "embedding": np.full((len(images), 4), np.nan)}

    report = compare_sessions(fake(honest), fake(broken), pixels, LABELS)
    assert {"finite", "max_cosine_distance", "max_batch_error"} <= failed(report)
    assert report.gates[0].value == 80
    assert report.figures.retrieval is None
    assert "NaN" in report.figures.notes[0]
    json.dumps(report.to_dict(), allow_nan=False)


def test_a_report_is_told_in_one_line(fake: Session, pixels: np.ndarray) -> None:
    report = compare_sessions(fake(honest), fake(honest), pixels)
    told, names = str(report), (report.candidate.path.name, report.reference.path.name)
    assert told.startswith(f"{names[0]} against {names[1]}: {len(report.gates)} of ")
    assert told.endswith(f"hold on {len(pixels)} images, 1 - cosine 0.0e+00 at worst")


def test_outputs_of_one_side_only_are_said_not_to_be_compared(
    fake: Session, pixels: np.ndarray
) -> None:
    def bare(images: np.ndarray) -> Outputs:
        return {"embedding": honest(images)["embedding"]}

    report = compare_sessions(fake(honest), fake(bare), pixels)
    assert report.passed
    assert len(report.figures.notes) == 2
    assert "export it with --also weights" in report.figures.notes[1]
    assert report.figures.weights is None


def test_one_image_has_no_neighbours(fake: Session, pixels: np.ndarray) -> None:
    report = compare_sessions(fake(honest), fake(honest), pixels[:1])
    assert report.figures.retrieval is None
    assert report.figures.notes == ("neighbours not compared: that takes at least 2 images",)


def test_no_image_is_an_error(fake: Session, pixels: np.ndarray) -> None:
    with pytest.raises(DataError, match="at least one image"):
        compare_sessions(fake(honest), fake(honest), pixels[:0])


def test_pictures_prepared_differently_are_refused_by_field(
    fake: Session, pixels: np.ndarray
) -> None:
    spec = replace(PreprocessingSpec(6, 6), interpolation="bicubic")
    with pytest.raises(UsageError, match=r"differently: interpolation \(bilinear against bicubic"):
        compare_sessions(fake(honest), fake(honest, spec=spec), pixels)


def test_models_of_different_size_are_refused(fake: Session, pixels: np.ndarray) -> None:
    half = changed(embedding=lambda e: e[:, :2])
    with pytest.raises(UsageError, match=r"\(4,\) in the reference .* and \(2,\) in the candidate"):
        compare_sessions(fake(honest), fake(half), pixels)


@pytest.mark.parametrize("what", ["labels", "ids"])
def test_labels_and_ids_are_one_an_image(fake: Session, pixels: np.ndarray, what: str) -> None:
    with pytest.raises(UsageError, match="per image, got"):
        compare_sessions(fake(honest), fake(honest), pixels, **{what: ["a", "b"]})


def test_the_document_holds_everything(fake: Session, pixels: np.ndarray) -> None:
    report = compare_sessions(fake(honest), fake(honest), pixels, LABELS)
    data = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert data["passed"] is True
    assert data["images"] == 20
    assert all(gate["passed"] is True for gate in data["gates"])
    assert data["weights"]["relative_to_spread"]["max"] == 0
    assert sum(data["cosine_distance"]["histogram"]["counts"]) == 20
    assert data["batch_invariance"]["bitwise"] is True
    assert data["retrieval"]["map_at_r_change"] == 0


def write_classes(folder: Path, pixels: np.ndarray) -> None:
    for i, image in enumerate(pixels):
        place = folder / LABELS[i] / f"{i:02}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(place)


def test_files_give_labels_names_and_a_list_of_what_is_broken(
    fake: Session, pixels: np.ndarray, tmp_path: Path
) -> None:
    write_classes(tmp_path, pixels)
    (tmp_path / "cat" / "00.png").write_bytes(b"")
    reference, candidate = fake(honest), fake(honest)
    reader = image_reader(reference, candidate, find_images([tmp_path]))
    seen: list[int] = []
    report = compare_files(reference, candidate, reader, progress=seen.append)
    assert report.passed
    assert len(report.ids) == sum(seen) == 19
    assert "cat/00.png" in report.skipped[0]
    assert report.figures.retrieval is not None
    assert report.figures.retrieval.reference is not None
    assert report.figures.retrieval.reference.queries == 19
    unlabelled = compare_files(reference, candidate, reader, labels_from_folders=False)
    assert unlabelled.figures.retrieval is not None
    assert unlabelled.figures.retrieval.reference is None


def test_files_need_somebody_who_knows_how_to_prepare_them(fake: Session, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="says how images are prepared"):
        image_reader(fake(honest, spec=None), fake(honest, spec=None), [tmp_path])


def test_exports_pass_against_their_checkpoint(exported: Path, photographs: np.ndarray) -> None:
    with open_session(exported / "model.safetensors") as reference:
        for precision in ("fp32", "fp16"):
            with open_rounding(exported / f"{precision}.onnx") as candidate:
                report = compare_sessions(reference, candidate, photographs)
                assert failed(report) == set()
                assert len(report.figures.outputs) == 3
                assert report.tolerances == tolerances_for(precision)


def test_a_file_without_manifest_gets_the_references_preparation(
    exported: Path, photographs: np.ndarray, tmp_path: Path
) -> None:
    import onnx

    model = onnx.load(exported / "fp32.onnx")
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "foreign.onnx")
    with (
        open_session(exported / "model.safetensors") as reference,
        open_session(tmp_path / "foreign.onnx") as candidate,
    ):
        report = compare_sessions(reference, candidate, photographs)
    assert report.passed
    assert report.figures.cosine.maximum < 1e-10
    assert report.tolerances == tolerances_for("unknown")

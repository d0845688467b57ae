"""The certificate states the error of the file; each test measures it again from its outputs."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from gsp_deploy import EmbeddingModel
from gsp_deploy.artifact import ExportManifest, SolverCertificate, read_sidecar
from gsp_deploy.bounds import newton_steps
from gsp_deploy.errors import DataError, GspDeployError, UsageError
from gsp_deploy.export import Calibration, ExportOptions, export_onnx
from gsp_deploy.export.certificate import WeightErrors
from gsp_deploy.reference import (
    SMALLEST_SHARE_SPREAD,
    exact_weights,
    log_mass_of,
)


def certificate_of(path: Path) -> SolverCertificate:
    manifest = read_sidecar(path)
    assert manifest is not None
    assert manifest.certificate is not None
    return manifest.certificate


def measured(path: Path, model: EmbeddingModel, inputs: np.ndarray) -> tuple[float, float, float]:
    """Run the written file with its embeddings exposed; return the three worst errors."""
    file = onnx.load(path)
    float_embeddings = {n.output[0] for n in file.graph.node} & {"gsp/embeddings_float"}
    embeddings = next(iter(float_embeddings), "gsp/embed")
    for name in (embeddings, "gsp/weights"):
        file.graph.output.append(onnx.helper.make_empty_tensor_value_info(name))
    session = onnxruntime.InferenceSession(file.SerializeToString())
    name, head = session.get_inputs()[0].name, model.config.head
    located, weights = session.run([embeddings, "gsp/weights"], {name: inputs})
    located, weights = (maps.reshape(*maps.shape[:2], -1) for maps in (located, weights))
    prototypes = model.head.prototypes.detach().numpy()
    log_mass = log_mass_of(located, prototypes, head.entropy_weight)
    exact = exact_weights(log_mass, head.transport_ratio)
    found = weights[:, 0].astype(np.float64)
    error = np.abs(found - exact).max(axis=1)
    spread = np.maximum(np.ptp(exact, axis=1), SMALLEST_SHARE_SPREAD / head.transport_ratio)
    return float(np.abs(found.mean(axis=1) - 1).max()), float(error.max()), (error / spread).max()


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize(("solver", "steps"), [("newton", 1), ("newton", 8), ("fixed-point", 3)])
def test_the_figures_are_those_of_the_file(
    solver, steps, precision, build_head, export_head, features
) -> None:
    model = build_head(entropy_weight=20.0, transport_ratio=0.7)
    path = export_head(model, solver=solver, iterations=steps, precision=precision)
    found = certificate_of(path)
    marginal, absolute, relative = measured(path, model, features)
    assert (found.solver, found.steps, found.tolerance) == (solver, steps, None)
    assert (found.images, found.calibration) == (5, "5 feature maps")
    assert found.worst_marginal_error == pytest.approx(marginal, rel=1e-3, abs=1e-9)
    assert found.worst_weight_error == pytest.approx(absolute, rel=1e-3, abs=1e-9)
    assert found.worst_relative_weight_error == pytest.approx(relative, rel=1e-3, abs=1e-9)
    assert (found.worst_weight_error < 1e-5) == (steps == 8)  # fewer are not enough, and it says so


@pytest.mark.parametrize(
    ("tolerance", "gamma", "ratio"),
    [(1e-2, 20.0, 0.3), (1e-4, 20.0, 0.3), (1e-4, 50.0, 0.8), (1e-3, 5.0, 0.1), (1e-4, 200.0, 0.3)],
)
def test_newton_takes_what_the_hardest_inputs_need_even_for_easy_images(
    tolerance, gamma, ratio, build_head, export_head, features
) -> None:
    model = build_head(entropy_weight=gamma, transport_ratio=ratio)
    path = export_head(model, tolerance=tolerance, solver="newton")
    found = certificate_of(path)
    assert found.tolerance == tolerance
    assert found.guarantee is None
    assert found.worst_relative_weight_error <= tolerance
    assert measured(path, model, features)[2] <= tolerance * 1.001
    steps = {n.name.split("/")[1] for n in onnx.load(path).graph.node if "/newton_" in n.name}
    assert len(steps) == found.steps >= newton_steps(gamma)


@pytest.mark.parametrize("tolerance", [1e-9, 1e-12])
def test_an_impossible_tolerance_is_refused(tolerance, build_head, export_head) -> None:
    with pytest.raises(GspDeployError, match="pass --tolerance") as caught:
        export_head(build_head(entropy_weight=50.0), tolerance=tolerance)
    assert f"{tolerance:.1e}" in str(caught.value)
    assert "\n" not in str(caught.value)
    reachable = float(str(caught.value).rsplit("--tolerance ", 1)[1])
    assert certificate_of(export_head(build_head(entropy_weight=50.0), tolerance=reachable))


@pytest.mark.parametrize("ratio", [0.05, 0.3, 0.9, 0.99])
@pytest.mark.parametrize("prototypes", [5, 64])
def test_the_authors_sharpness_is_within_the_default_tolerance(
    prototypes, ratio, build_head, export_head
) -> None:
    """At gamma 0.1 weights differ so little that float32's rounding is most of the error."""
    model = build_head(entropy_weight=0.1, transport_ratio=ratio, num_prototypes=prototypes)
    assert certificate_of(export_head(model)).worst_relative_weight_error <= 1e-4


@pytest.mark.parametrize("solver", ["certified", "newton"])
def test_locations_on_prototypes_are_within_the_default_tolerance(
    solver, build_head, calibration, tmp_path
) -> None:
    model = build_head(entropy_weight=100.0, transport_ratio=0.05, num_prototypes=30)
    with torch.no_grad():
        located = model.head.embed(torch.from_numpy(calibration.inputs).flatten(2).mT)
        model.head.prototypes.copy_(located.flatten(0, 1)[:30])
    options = ExportOptions(solver=solver)
    found = export_onnx(model, tmp_path / "x.onnx", options, calibration).manifest.certificate
    assert found.worst_relative_weight_error <= 1e-4


def test_a_tolerance_that_newton_cannot_reach_is_refused(build_head, export_head) -> None:
    with pytest.raises(GspDeployError, match="pass a larger --tolerance") as caught:
        export_head(build_head(entropy_weight=50.0), solver="newton", tolerance=1e-9)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("settings", [{"transport_ratio": 1.0}, {"baseline": True}])
def test_a_model_without_a_solver_has_no_certificate(settings, build_head, export_head) -> None:
    manifest = read_sidecar(export_head(build_head(**settings)))
    assert manifest.certificate is None


@pytest.mark.parametrize(("kind", "steps"), [("fixed-point", 37), ("newton", 100)])
def test_fixed_point_takes_the_checkpoints_own_steps(kind, steps, build_head, export_head) -> None:
    iterations = 37 if kind == "fixed-point" else None
    model = build_head(solver=kind, iterations=iterations)
    assert certificate_of(export_head(model, solver="fixed-point")).steps == steps


def test_images_are_certified_in_batches_of_any_size(build_head, tmp_path) -> None:
    """17 images make three batches, the last one filled up: the worst of all 17 counts."""
    model = build_head(entropy_weight=20.0)
    inputs = np.abs(np.random.default_rng(3).standard_normal((17, 12, 3, 4))).astype(np.float32)
    for dynamic in (True, False):
        options = ExportOptions(solver="newton", iterations=2, dynamic_batch=dynamic)
        path = export_onnx(
            model, tmp_path / "x.onnx", options, Calibration(inputs, "17 maps", None)
        ).path
        found = certificate_of(path)
        worst = max(measured(path, model, inputs[i : i + 1])[1] for i in range(17))
        assert found.worst_weight_error == pytest.approx(worst, rel=1e-3)
        assert found.images == 17


def test_errors_are_per_image_and_relative_to_its_own_spread() -> None:
    exact = np.array([[0.0, 2.0, 1.0], [0.9, 1.1, 1.0]])
    found = exact + np.array([[0.0, 0.1, 0.0], [0.05, 0.0, 0.0]])
    errors = WeightErrors.between(found, exact, 0.5)
    assert errors.marginal == pytest.approx(0.1 / 3)
    assert errors.absolute == pytest.approx(0.1)
    assert errors.relative == pytest.approx(0.05 / 0.2)
    flat = WeightErrors.between(np.full((1, 3), 1.001), np.ones((1, 3)), 0.5)
    assert flat.relative == pytest.approx(1e-3 / (SMALLEST_SHARE_SPREAD / 0.5))


def test_wrong_calibration_is_refused(build_head, calibration, tmp_path) -> None:
    with pytest.raises(DataError, match="at least one image"):
        dataclasses.replace(calibration, inputs=calibration.inputs[:0])
    for inputs, reason in [
        (calibration.inputs[:, :5], "invalid dimensions"),
        (calibration.inputs * np.nan, "calibration images"),
    ]:
        wrong = dataclasses.replace(calibration, inputs=inputs)
        with pytest.raises(GspDeployError, match=reason) as caught:
            export_onnx(build_head(), tmp_path / "x.onnx", ExportOptions(), wrong)
        assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("value", [0, 1, -1, float("nan"), float("inf")])
def test_tolerances_outside_their_domain(value: float) -> None:
    with pytest.raises(UsageError, match="tolerance"):
        ExportOptions(tolerance=value)


def test_the_manifest_inside_the_file_carries_it_too(build_head, export_head) -> None:
    path = export_head(build_head())
    props = {p.key: p.value for p in onnx.load(path).metadata_props}
    inside = ExportManifest.from_json(props["gsp_deploy.manifest"], path)
    assert inside.certificate == certificate_of(path)

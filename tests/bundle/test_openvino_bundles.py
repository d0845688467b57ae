"""Bundles that run in OpenVINO: what they record, what they open, and the fallback."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gsp_deploy.bundle import (
    BundleOptions,
    open_bundle,
    read_bundle_manifest,
    verify_bundle,
)
from gsp_deploy.bundle.packaging import PackageOptions, package_model
from gsp_deploy.errors import MissingCapabilityError, UsageError
from gsp_deploy.runtime import open_session, openvino_model

PIXELS = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)
HAS_BF16 = "bf16" in openvino_model.processor_precisions()


@pytest.fixture(scope="module")
def bundle(tiny_export: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("openvino") / "bundle"
    return package_model(tiny_export, folder, PackageOptions(runtime="openvino")).folder


@pytest.fixture(scope="module")
def narrow(tiny_export: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle whose first artifact computes in bfloat16."""
    folder = tmp_path_factory.mktemp("openvino") / "narrow"
    options = PackageOptions(runtime="openvino", precision="bf16")
    return package_model(tiny_export, folder, options).folder


def test_openvino_comes_first_and_onnx_runtime_is_the_fallback(bundle: Path) -> None:
    first, second = read_bundle_manifest(bundle).artifacts
    assert (first.runtime, second.runtime) == ("openvino", "onnxruntime")
    assert first.file == second.file
    with open_bundle(bundle) as session, open_session(bundle / first.file) as other:
        assert session.info.runtime.startswith("openvino ")
        np.testing.assert_allclose(session.embed(PIXELS), other.embed(PIXELS), atol=1e-5)
    assert verify_bundle(bundle).passed
    assert "gsp-deploy[openvino]" in (bundle / "README.md").read_text()


@pytest.mark.skipif(not HAS_BF16, reason="this processor has no bfloat16")
def test_the_precision_goes_with_the_bundle(narrow: Path) -> None:
    first = read_bundle_manifest(narrow).artifacts[0]
    assert (first.precision, first.computes) == ("bf16", "bf16")
    assert first.max_cosine_distance == 1e-2
    with open_bundle(narrow) as session:
        assert (session.info.precision, session.info.device) == (
            "bf16",
            "CPU, computes in bfloat16",
        )
    assert verify_bundle(narrow).passed


@pytest.mark.parametrize(
    ("named", "precision"),
    [
        (("onnxruntime", None), "fp32"),
        (("openvino", "fp32"), "fp32"),
        pytest.param(
            ("openvino", None), "bf16",
            marks=pytest.mark.skipif(not HAS_BF16, reason="this processor has no bfloat16"),
        ),
    ],
)  # fmt: skip
def test_a_named_runtime_runs_the_onnx_model(named, precision: str, narrow: Path) -> None:
    runtime, asked = named
    report = verify_bundle(narrow, BundleOptions(runtime=runtime, precision=asked))
    assert report.passed
    assert report.runtime.startswith(f"{runtime} ")
    with open_session(narrow, runtime=runtime, precision=asked) as session:
        assert session.info.precision == precision


def test_any_bundle_runs_in_openvino(tiny_export: str, tmp_path: Path) -> None:
    folder = package_model(tiny_export, tmp_path / "bundle").folder
    report = verify_bundle(folder, BundleOptions(runtime="openvino"))
    assert report.passed
    assert report.runtime.startswith("openvino ")


def test_a_processor_without_bfloat16_falls_back_if_it_may(narrow: Path, monkeypatch) -> None:
    monkeypatch.setattr(openvino_model, "processor_precisions", lambda: ("fp32",))
    with pytest.raises(MissingCapabilityError, match=r"runs tiny\.onnx in ONNX Runtime too, pass"):
        verify_bundle(narrow)
    report = verify_bundle(narrow, BundleOptions(allow_fallback=True))
    assert report.passed
    assert report.runtime.startswith("onnxruntime ")


def test_a_precision_alone_is_refused(bundle: Path) -> None:
    with pytest.raises(UsageError, match="precision is a setting of OpenVINO"):
        verify_bundle(bundle, BundleOptions(precision="bf16"))
    with pytest.raises(UsageError, match="precision is a setting of OpenVINO"):
        PackageOptions(precision="bf16")

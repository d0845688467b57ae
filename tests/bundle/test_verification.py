"""`verify` reports what differs on a target, and never runs a hostile bundle."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from gsp_deploy.artifact.bundle_manifest import check_inside
from gsp_deploy.bundle import BundleManifest, BundleOptions, open_bundle, verify_bundle
from gsp_deploy.bundle.files import write_sums
from gsp_deploy.bundle.packaging import PackageOptions, package_model
from gsp_deploy.errors import DataError, GateError, MissingCapabilityError, ModelFileError
from gsp_deploy.metrics import cosine_distances


def test_a_sound_bundle_passes(bundle: Path) -> None:
    report = verify_bundle(bundle)
    assert report.passed
    report.raise_on_failure()
    assert [check.name for check in report.checks] == [
        "files", "pre-processing", "golden embeddings",
    ]  # fmt: skip
    assert report.artifact == "tiny.onnx"
    assert report.runtime.startswith("onnxruntime")
    assert json.loads(json.dumps(report.to_dict()))["passed"] is True


def test_nothing_of_a_changed_bundle_is_loaded(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (bundle / "tiny.onnx").write_bytes(b"hostile")
    monkeypatch.setattr("gsp_deploy.bundle.opening.open_session", pytest.fail)
    report = verify_bundle(bundle)
    assert not report.passed
    with pytest.raises(GateError, match=r"tiny.onnx is not the file that was packaged"):
        report.raise_on_failure()
    with pytest.raises(GateError, match=r"copy the bundle again"):
        open_bundle(bundle)


@pytest.mark.parametrize("pickled", [False, True])
def test_golden_arrays_are_never_unpickled(pickled: bool, bundle: Path, tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple:
            return (os.mkdir, (str(tmp_path / "owned"),))

    content = np.array([Evil()], dtype=object) if pickled else np.zeros((3, 8), np.float32)
    np.save(bundle / "golden/embeddings.npy", content, allow_pickle=True)
    write_sums(bundle)
    with pytest.raises(DataError):
        verify_bundle(bundle)
    assert not (tmp_path / "owned").exists()


def test_an_embedding_that_is_off_is_reported(bundle: Path) -> None:
    """One image of eight, just above what is allowed."""
    path = bundle / "golden/embeddings.npy"
    golden = np.load(path)
    golden[5] += 0.02
    np.save(path, golden)
    write_sums(bundle)
    worst = cosine_distances(np.load(path), np.load(path) - 0.02 * (np.arange(8) == 5)[:, None])
    report = verify_bundle(bundle)
    assert [check.passed for check in report.checks] == [True, True, False]
    assert f"worst cosine distance {worst.max():.1e}, allowed is 1e-05" in report.checks[2].found


@pytest.mark.parametrize(("off", "passes"), [(0, True), (1, True), (2, False)])
def test_pixels_may_differ_by_one_and_no_more(off: int, passes: bool, bundle: Path) -> None:
    path = bundle / "golden/images.npy"
    images = np.load(path)
    place = tuple(np.argwhere((images[0] > 9) & (images[0] < 240))[0])
    images[(0, *place)] += off
    np.save(path, images)
    write_sums(bundle)
    check = verify_bundle(bundle).checks[1]
    assert (check.passed, check.found) == (
        passes,
        f"golden photograph off by {off} of 255, allowed is 1",
    )


def test_an_array_that_promises_more_than_its_file_holds(bundle: Path) -> None:
    path = bundle / "golden/images.npy"
    header = {"descr": "|u1", "fortran_order": False, "shape": (1_000_000_000_000, 1, 1, 3)}
    with path.open("wb") as stream:
        np.lib.format.write_array_header_1_0(stream, header)
    write_sums(bundle)
    with pytest.raises(DataError, match=r"damaged \(the header promises 3,000,000,000,000 bytes"):
        verify_bundle(bundle)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"embedding_dim": -1}, "embedding_dim must be at least 1, got -1"),
        ({"embedding_dim": 9}, "embedding_dim is 9 in the manifest, but 8 in the model"),
        ({"fixed_batch": -3}, "fixed_batch must be at least 1, got -3"),
        ({"fixed_batch": 4}, "fixed_batch is 4 in the manifest, but None in the model"),
        ({"precision": "evil"}, "precision is 'evil' in the manifest, but 'fp32' in the model"),
        ({"input": {"shape": [-1, 3, 8, 8]}}, "must be at least 0, got (-1, 3, 8, 8)"),
        ({"input": {"shape": ["batch", 3, 8, 8]}}, "input is"),
    ],
)
def test_a_manifest_that_says_what_the_model_is_not(change, said: str, bundle: Path) -> None:
    path = bundle / "bundle.json"
    document = json.loads(path.read_text())
    artifact = document["artifacts"][0]
    for name, value in change.items():
        if name in document:
            document[name] = value
        else:
            artifact[name] = {**artifact[name], **value} if name == "input" else value
    path.write_text(json.dumps(document))
    write_sums(bundle)
    with pytest.raises((GateError, ModelFileError)) as caught:
        verify_bundle(bundle).raise_on_failure()
    assert said in str(caught.value)


def test_an_embedding_of_zeros_passes_no_gate(bundle: Path) -> None:
    np.save(bundle / "golden/embeddings.npy", np.zeros((8, 8), np.float32))
    write_sums(bundle)
    assert not verify_bundle(bundle).passed


def test_cosine_distance_by_its_definition() -> None:
    one = np.array([[1, 0], [1, 1], [2, 0]], np.float32)
    other = np.array([[0, 3], [1, 0], [-1, 0]], np.float32)
    np.testing.assert_allclose(cosine_distances(one, other), [1, 1 - np.sqrt(0.5), 2])


def test_an_engine_of_elsewhere(tiny_export: str, make_engine, tmp_path: Path) -> None:
    """No machine of this project has its GPU: it is refused in a line, or gives way."""
    engine = make_engine(Path(tiny_export), tmp_path / "m.engine")
    options = PackageOptions(onnx=Path(tiny_export))
    bundle = package_model(engine, tmp_path / "bundle", options).folder
    with pytest.raises(MissingCapabilityError, match=r"built on linux aarch64.*--allow-fallback"):
        verify_bundle(bundle)
    with pytest.raises(MissingCapabilityError):
        open_bundle(bundle)
    report = verify_bundle(bundle, BundleOptions(allow_fallback=True))
    assert report.passed
    assert report.artifact == "tiny.onnx"
    assert "linux aarch64" in report.fallback
    with open_bundle(bundle, BundleOptions(device="cpu", allow_fallback=True)) as session:
        assert session.info.path.name == "tiny.onnx"


@pytest.mark.parametrize(
    "name",
    ["../x", "a/../../x", "/etc/passwd", "a//b", "./a", "a\\..\\b", "C:/x", "", "..", 3, None],
)
def test_names_that_lead_out(name: object) -> None:
    with pytest.raises(ModelFileError, match="within the bundle"):
        check_inside(name)


@pytest.mark.parametrize("name", ["a", "a/b.c", "..a/b..", "model v2.onnx"])
def test_names_that_stay_inside(name: str) -> None:
    check_inside(name)


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"format": 1}', '{"format": 9}', "{" * 99, '{"format": 1, "artifacts": 3}'],
)
def test_manifests_that_are_none(text: str) -> None:
    with pytest.raises(ModelFileError):
        BundleManifest.from_json(text, "bundle.json")


def test_every_missing_or_foreign_field_is_reported(bundle: Path) -> None:
    """Each field of the manifest in turn: left out, and of another type."""
    whole = json.loads((bundle / "bundle.json").read_text())
    for key in set(whole) - {"format"}:
        for changed in ({k: v for k, v in whole.items() if k != key}, {**whole, key: [[1]]}):
            with pytest.raises(ModelFileError):
                BundleManifest.from_json(json.dumps(changed), "bundle.json")


def test_what_is_no_bundle(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "missing"):
        with pytest.raises(ModelFileError, match="not a bundle"):
            verify_bundle(folder)

"""Whole models in every form of export, against PyTorch on the same pixels."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path

import numpy as np
import onnx
import pytest

from gsp_deploy import EmbeddingModel, load_checkpoint, open_session
from gsp_deploy.artifact import METADATA_KEY, read_sidecar
from gsp_deploy.errors import GspDeployError, MissingCapabilityError, ModelFileError, UsageError
from gsp_deploy.export import ExportOptions, export_onnx

COSINE = {"fp32": 1e-9, "fp16": 1e-4, "bf16": 5e-3}


@pytest.fixture(scope="module")
def model(tiny_checkpoint: Path) -> EmbeddingModel:
    return load_checkpoint(tiny_checkpoint)


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def expected(tiny_checkpoint: Path, pixels: np.ndarray) -> np.ndarray:
    with open_session(tiny_checkpoint) as session:
        return session.embed(pixels)


def cosine_distance(a: np.ndarray, b: np.ndarray) -> float:
    return float(0.5 * np.square(a.astype(np.float64) - b).sum(1).max())


@pytest.mark.parametrize(
    "settings",
    [
        {"opset": 17},
        {"opset": 19},
        {"opset": 20},
        {"opset": 21},
        {"precision": "fp16"},
        {"precision": "fp16", "io_precision": "fp16"},
        {"precision": "bf16"},
        {"precision": "bf16", "opset": 18},
        {"precision": "bf16", "io_precision": "bf16"},
        {"include_preprocessing": True},
        {"include_preprocessing": True, "precision": "fp16", "opset": 17},
        {"dynamic_batch": False},
        {"dynamic_size": True},
        {"solver": "fixed-point"},
        {"external_data": True},
    ],
    ids=str,
)
def test_every_form_equals_pytorch(
    settings: dict, model: EmbeddingModel, pixels: np.ndarray, expected: np.ndarray, tmp_path: Path
) -> None:
    path = tmp_path / "model.onnx"
    exported = export_onnx(model, path, ExportOptions(**settings))
    onnx.checker.check_model(str(path), full_check=True)
    graph = onnx.load(path)
    assert {entry.domain for entry in graph.opset_import} == {""}
    assert graph.opset_import[0].version == exported.manifest.opset
    assert exported.manifest == read_sidecar(path)
    keys = {entry.key for entry in graph.metadata_props}
    assert {METADATA_KEY, "gsp_deploy.license", "gsp_deploy.model_name"} <= keys
    with open_session(path) as session:
        found = session.embed(pixels)
    assert cosine_distance(found, expected) < COSINE[settings.get("precision", "fp32")]


def test_no_file_names_the_machine_that_made_it(model: EmbeddingModel, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    export_onnx(model, path)
    here = os.path.dirname(os.path.dirname(onnx.__file__))
    for place in (here, os.getcwd(), str(Path.home())):
        assert place.encode() not in path.read_bytes()


def test_another_size_than_exported(model: EmbeddingModel, tmp_path: Path) -> None:
    import torch

    path = tmp_path / "model.onnx"
    export_onnx(model, path, ExportOptions(dynamic_size=True, outputs=("weights",)))
    images = np.random.default_rng(1).standard_normal((2, 3, 64, 96)).astype(np.float32)
    with open_session(path) as session:
        found = session.run(images)
    with torch.inference_mode():
        reference = model(torch.from_numpy(images))
    np.testing.assert_allclose(found["embedding"], reference.embedding.numpy(), atol=1e-5)
    np.testing.assert_allclose(found["weights"], reference.weights.numpy(), atol=1e-4)


def test_a_missing_data_file_is_named(model: EmbeddingModel, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    export_onnx(model, path, ExportOptions(external_data=True))
    (tmp_path / "model.onnx.data").unlink()
    with pytest.raises(ModelFileError, match=r"model\.onnx\.data"):
        open_session(path)


def test_a_full_disk_leaves_the_old_model(
    model: EmbeddingModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"old")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(GspDeployError, match="No space left on device"):
        export_onnx(model, path)
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.onnx"]


def test_an_impossible_tolerance_is_refused(build_head, tmp_path: Path) -> None:
    model = build_head(entropy_weight=20.0)
    with pytest.raises(GspDeployError, match="tolerance"):
        export_onnx(model, tmp_path / "model.onnx", ExportOptions(tolerance=1e-11))
    assert not (tmp_path / "model.onnx").exists()


def test_sessions_refuse_what_does_not_fit(tiny_export: str) -> None:
    with open_session(tiny_export) as session:
        with pytest.raises(UsageError, match=r"expected images of shape \(batch, 3, 32, 32\)"):
            session.embed(np.zeros((1, 3, 8, 8), np.float32))
        with pytest.raises(UsageError, match="NaN"):
            session.embed(np.full((1, 3, 32, 32), np.nan, np.float32))
        with pytest.raises(UsageError, match="--also weights"):
            session.run(np.zeros((1, 32, 32, 3), np.uint8), ("weights",))
        assert session.embed(np.zeros((0, 32, 32, 3), np.uint8)).shape == (0, 8)


def test_many_images_go_through_in_chunks(tiny_export: str, pixels: np.ndarray) -> None:
    with open_session(tiny_export) as whole, open_session(tiny_export, max_batch=2) as chunked:
        np.testing.assert_allclose(chunked.embed(pixels), whole.embed(pixels), atol=1e-6)


def test_a_device_that_is_not_there_is_exit_code_4(tiny_export: str) -> None:
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this machine has the CUDA provider")
    with pytest.raises(MissingCapabilityError, match="onnxruntime-gpu") as caught:
        open_session(tiny_export, device="cuda")
    assert caught.value.exit_code == 4


def test_truncated_and_flipped_files_raise_this_packages_errors(
    tiny_export: str, tmp_path: Path
) -> None:
    whole = Path(tiny_export).read_bytes()
    draw = np.random.default_rng(0)
    path = tmp_path / "damaged.onnx"
    for trial in range(40):
        damaged = bytearray(whole[: draw.integers(len(whole))] if trial % 2 else whole)
        for position in draw.integers(0, max(len(damaged), 1), 20):
            if damaged:
                damaged[position] ^= 1 << int(draw.integers(8))
        path.write_bytes(bytes(damaged))
        with contextlib.suppress(ModelFileError, UsageError):
            open_session(path).close()


def test_squeeze_and_excitation_in_the_oldest_opset(tmp_path: Path) -> None:
    """Its reductions carry an attribute that opset 17 does not know."""
    import torch

    from gsp_deploy import GSPConfig, ModelConfig, PreprocessingSpec
    from gsp_deploy.model import feature_channels

    spec = PreprocessingSpec(32, 32)
    head = GSPConfig(feature_channels("test_efficientnet", {}, spec), 8, num_prototypes=4)
    squeezing = EmbeddingModel(ModelConfig("test_efficientnet", head, spec)).eval()
    path = tmp_path / "model.onnx"
    export_onnx(squeezing, path, ExportOptions(opset=17))
    images = np.random.default_rng(0).standard_normal((2, 3, 32, 32)).astype(np.float32)
    with torch.inference_mode():
        expected = squeezing(torch.from_numpy(images)).embedding.numpy()
    with open_session(path) as session:
        np.testing.assert_allclose(session.embed(images), expected, atol=1e-5)

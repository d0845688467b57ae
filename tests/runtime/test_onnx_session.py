"""ONNX Runtime: whatever file comes, it runs or is refused in our words."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from foreign_graph import small_graph
from onnx import TensorProto

from gsp_deploy import open_session
from gsp_deploy.errors import GspDeployError, MissingCapabilityError, ModelFileError
from gsp_deploy.runtime import onnx_graph


def test_a_foreign_model_with_an_embedding_runs(tmp_path: Path) -> None:
    with open_session(small_graph(tmp_path / "foreign.onnx")) as session:
        x = np.random.default_rng(0).standard_normal((3, 4, 5, 6)).astype(np.float32)
        np.testing.assert_allclose(session.embed(x), np.maximum(x, 0).mean(axis=(2, 3)), atol=1e-6)
        assert session.info.manifest is None
        assert session.info.precision == "unknown"
        assert session.info.preprocessing is None
        assert session.info.input.shape == ("batch", 4, "?", "?")


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"output": "logits"}, r"output embedding \[batch, D\], found logits"),
        ({"shape": ("batch", "d"), "channels": None}, r"embedding \['batch', 'd'\]"),
        ({"shape": None, "channels": None}, r"embedding \["),
        ({"inputs": 2}, "one input of images, found x0 tensor.float., x1"),
        ({"dtype": TensorProto.INT32}, "one input of images, found x0 tensor.int32."),
        ({"operator": "NoSuchOperator"}, "NoSuchOperator"),
    ],
)
def test_models_of_other_forms_are_refused(options, named, tmp_path: Path) -> None:
    path = small_graph(tmp_path / "foreign.onnx", **options)
    with pytest.raises(ModelFileError, match=named) as caught:
        open_session(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"text\n" * 20, b"\0" * 100, b"PK\3\4" + b"x" * 99])
def test_files_that_are_no_models(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match="cannot load"):
        open_session(path)


def outcome(path: Path, inputs: np.ndarray) -> str:
    """Return `runs`, or the kind of refusal; any other exception ends the test."""
    try:
        with open_session(path) as session:
            session.embed(inputs)
    except GspDeployError as error:
        assert_one_line(error)
        return type(error).__name__
    return "runs"


def assert_one_line(error: GspDeployError) -> None:
    assert "\n" not in str(error)


@pytest.mark.parametrize("seed", range(4))
def test_damaged_models_run_or_are_refused(
    seed: int, head_export, features, tmp_path: Path, capfd
) -> None:
    """Truncated, with flipped bits, and with stretches of noise."""
    raw, draw = head_export(iterations=2).read_bytes(), random.Random(seed)
    path, found = tmp_path / "damaged.onnx", []
    for index in range(60):
        damaged = bytearray(raw)
        place = draw.randrange(len(raw))
        if index % 3 == 0:
            del damaged[place:]
        elif index % 3 == 1:
            damaged[place] ^= 1 << draw.randrange(8)
        else:
            damaged[place : place + 20] = draw.randbytes(draw.randrange(1, 40))
        path.write_bytes(damaged)
        found.append(outcome(path, features))
    assert set(found) <= {"runs", "ModelFileError", "UsageError"}
    assert found.count("ModelFileError") > 20
    assert capfd.readouterr().out == ""  # a --json document may stand there


def test_a_damaged_manifest_beside_the_model_is_named(head_export, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(head_export().read_bytes())
    (tmp_path / "model.onnx.json").write_text("{")
    with pytest.raises(ModelFileError, match=r"model\.onnx\.json: the manifest is damaged"):
        open_session(path)


def test_the_manifest_inside_is_enough(head_export, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(head_export().read_bytes())
    with open_session(path) as session:
        assert session.info.manifest.certificate.steps == 8


@pytest.mark.parametrize("provider", ["cpu", "CPU", "CPUExecutionProvider"])
def test_a_provider_by_any_of_its_names(provider: str, head_export, features) -> None:
    with open_session(head_export(), provider=provider) as session:
        assert session.info.device == "CPU"
        assert session.embed(features).shape == (7, 5)


@pytest.mark.parametrize("provider", ["tpu", "NoSuchExecutionProvider"])
def test_a_provider_that_is_not_there(provider: str, head_export) -> None:
    with pytest.raises(MissingCapabilityError, match=f"has no {provider}, only") as caught:
        open_session(head_export(), provider=provider)
    assert caught.value.exit_code == 4


class FellBack:
    """What ONNX Runtime gives where a provider's library is missing: the CPU, and no error."""

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def get_providers(self) -> list[str]:
        return ["CPUExecutionProvider"]


def test_a_provider_that_does_not_start_is_no_damaged_file(head_export, monkeypatch) -> None:
    everything = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: everything)
    monkeypatch.setattr(onnx_graph.onnxruntime, "InferenceSession", FellBack)
    with pytest.raises(MissingCapabilityError, match="could not start CUDA") as caught:
        open_session(head_export(), "cuda")
    assert caught.value.exit_code == 4


@pytest.mark.parametrize("threads", [1, 2])
def test_threads_change_nothing(threads: int, head_export, features) -> None:
    with open_session(head_export()) as one, open_session(head_export(), threads=threads) as other:
        np.testing.assert_allclose(one.embed(features), other.embed(features), atol=1e-6)


def test_a_failure_while_running_is_told(head_export, features) -> None:
    with open_session(head_export()) as session:
        with pytest.raises(ModelFileError, match="cannot run it") as caught:
            session.infer(features[:, :5], ("embedding",))
        assert_one_line(caught.value)


@pytest.mark.parametrize("vnni", [True, False])
def test_products_are_made_exact_only_where_they_would_saturate(
    vnni: bool, tiny_export: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With VNNI they are exact, and the setting would double the time of int8."""
    entries: list[str] = []

    class Recorded(onnxruntime.SessionOptions):
        def add_session_config_entry(self, key: str, value: str) -> None:
            entries.append(key)
            super().add_session_config_entry(key, value)

    monkeypatch.setattr(onnxruntime, "SessionOptions", Recorded)
    monkeypatch.setattr("gsp_deploy.base.environment.has_vnni", lambda: vnni)
    open_session(tiny_export).close()
    assert ("session.x64quantprecision" in entries) is not vnni

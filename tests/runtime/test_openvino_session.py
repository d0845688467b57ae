"""OpenVINO beyond what every session does: precision, threads, requests, odd files."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest
from foreign_graph import small_graph

from gsp_deploy import EmbeddingModel, GSPConfig, ModelConfig, open_session
from gsp_deploy.artifact import sidecar_path
from gsp_deploy.errors import GspDeployError, MissingCapabilityError, ModelFileError, UsageError
from gsp_deploy.export import ExportOptions, export_onnx
from gsp_deploy.runtime import SessionOptions, openvino_model
from gsp_deploy.runtime.openvino_model import compile_model, processor_precisions, read_model

HAS_BF16 = "bf16" in processor_precisions()
needs_bf16 = pytest.mark.skipif(not HAS_BF16, reason="this processor has no bfloat16")


def opened(path: Path, **options):
    return open_session(path, runtime="openvino", **{"threads": 1, **options})


def test_float32_is_pinned(head_export, features) -> None:
    with opened(head_export()) as session, open_session(head_export()) as other:
        info = session.info
        assert (info.precision, info.device, info.emulated) == (
            "fp32",
            "CPU, computes in float32",
            False,
        )
        assert info.device == "CPU, computes in float32"
        expected = other.run(features)
        for name, array in session.run(features).items():
            np.testing.assert_allclose(array, expected[name], atol=1e-5)


@pytest.mark.parametrize(
    "options",
    [
        {"pooling_form": "plugin", "outputs": ("attributes", "weights", "residual")},
        {"external_data": True},
        {"external_data": True, "pooling_form": "plugin"},
        {"solver": "fixed-point"},
        {"io_precision": "fp16"},
        {"precision": "fp16"},
        {"outputs": ("residual",)},
    ],
    ids=str,
)
def test_every_form_of_export_runs(options, head_export, features) -> None:
    path = head_export(**options)
    with opened(path) as session, open_session(path) as other:
        assert session.info.outputs == other.info.outputs
        assert session.info.input == other.info.input
        found, expected = session.run(features), other.run(features)
    loose = "fp16" in options.values()
    for name, array in found.items():
        np.testing.assert_allclose(array, expected[name], atol=2e-2 if loose else 1e-5)


def test_a_plugin_export_needs_no_manifest_beside_it(head_export, features, tmp_path) -> None:
    path = tmp_path / "alone.onnx"
    shutil.copyfile(head_export(pooling_form="plugin"), path)
    with opened(path) as session, open_session(head_export()) as other:
        assert session.info.manifest.pooling_form == "plugin"
        np.testing.assert_allclose(session.embed(features), other.embed(features), atol=1e-5)


def test_a_bare_node_is_refused(head_export) -> None:
    with pytest.raises(ModelFileError, match="for OpenVINO export it without --bare"):
        opened(head_export(pooling_form="plugin-bare"))


def test_weights_may_be_links(head_export, features, tmp_path: Path) -> None:
    source = head_export(external_data=True)
    for file in (source, source.with_name(f"{source.name}.data"), sidecar_path(source)):
        os.symlink(file, tmp_path / file.name)
    with opened(tmp_path / source.name) as session, opened(source) as other:
        np.testing.assert_array_equal(session.embed(features), other.embed(features))


@needs_bf16
def test_bfloat16_is_taken_if_it_is_asked_for(head_export, features) -> None:
    with opened(head_export(), precision="bf16") as session, opened(head_export()) as exact:
        info = session.info
        assert (info.precision, info.device, info.emulated) == (
            "bf16",
            "CPU, computes in bfloat16",
            False,
        )
        found, expected = session.run(features), exact.run(features)
    assert info.outputs == exact.info.outputs
    for name in ("embedding", "attributes"):
        error = np.abs(found[name] - expected[name]).max() / np.abs(expected[name]).max()
        assert 1e-6 < error < 3e-2


@needs_bf16
@pytest.mark.parametrize(
    "options", [{"precision": "bf16"}, {"precision": "bf16", "io_precision": "bf16"}], ids=str
)
def test_a_bfloat16_file_computes_in_it(options, head_export, features) -> None:
    path = head_export(**options)
    with opened(path) as session, opened(head_export()) as exact:
        assert (session.info.precision, session.info.device) == (
            "bf16",
            "CPU, computes in bfloat16",
        )
        found, expected = session.embed(features), exact.embed(features)
    assert 1e-6 < np.abs(found - expected).max() < 3e-2
    with opened(path, precision="fp32") as session:
        info = session.info
        assert (info.precision, info.device, info.emulated) == (
            "bf16",
            "CPU, computes in float32",
            True,
        )


def test_a_processor_without_bfloat16_is_named(head_export, monkeypatch) -> None:
    monkeypatch.setattr(openvino_model, "processor_precisions", lambda: ("fp32",))
    with pytest.raises(MissingCapabilityError, match="needs a processor with AMX or AVX512-BF16"):
        opened(head_export(), precision="bf16")
    with opened(head_export(precision="bf16")) as session:  # it runs, and says how
        assert session.info.emulated
        assert session.info.device == "CPU, computes in float32"


@needs_bf16
@pytest.mark.parametrize("pooling", ["gap", "gem", "gmp"])
@pytest.mark.parametrize("form", ["unrolled", "plugin"])
def test_the_solver_stays_in_float32(pooling: str, form: str, tmp_path: Path) -> None:
    config = GSPConfig(6, 5, 4, solver="newton", pooling=pooling)
    model = EmbeddingModel(ModelConfig("features", config, None)).eval()
    options = ExportOptions(iterations=2, pooling_form=form)
    path = export_onnx(model, tmp_path / "head.onnx", options).path
    graph = read_model(path)
    asked = SessionOptions(runtime="openvino", precision="bf16", threads=1)
    compiled = compile_model(path, graph, "bf16", asked)
    lowered = {
        node.get_rt_info()["originalLayersNames"].astype(str)
        for node in compiled.get_runtime_model().get_ordered_ops()
        if node.get_rt_info()["runtimePrecision"].astype(str) == "bf16"
    }
    assert any("gsp/product" in names for names in lowered)
    solving = ("newton", "kept", "logit", "mass", "scores", "cost", "nearest", "sweep")
    assert not [names for names in lowered if any(f"gsp/{word}" in names for word in solving)]


def test_threads_are_those_asked_for_or_available(head_export, monkeypatch) -> None:
    monkeypatch.setattr(openvino_model, "available_cores", lambda: 1)
    path = head_export()
    for asked, expected in ((None, 1), (2, 2)):
        options = SessionOptions(runtime="openvino", threads=asked)
        compiled = compile_model(path, read_model(path), "fp32", options)
        assert compiled.get_property("INFERENCE_NUM_THREADS") == expected
        assert not compiled.get_property("ENABLE_CPU_PINNING")


def test_a_signal_after_closing_ends_no_process(head_export) -> None:
    """Python handles signals on a stack that faulthandler has, and OpenVINO may replace."""
    code = f"""
import faulthandler, signal
from gsp_deploy.runtime import open_session

faulthandler.enable()
sessions = [open_session({str(head_export())!r}, runtime="openvino") for _ in range(2)]
for session in sessions:
    session.close()
del session, sessions[0]
sessions.clear()
signal.signal(signal.SIGINT, lambda *_: print("handled"))
signal.raise_signal(signal.SIGINT)
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout) == (0, "handled\n"), ran.stderr


@pytest.mark.parametrize("requests", [2, 3, 0])
def test_requests_in_flight_keep_the_order(requests: int, head_export) -> None:
    maps = np.random.default_rng(1).random((23, 6, 3, 4), np.float32)
    with opened(head_export()) as one, opened(head_export(), requests=requests, threads=2) as many:
        expected = one.run(maps)
        for name, array in many.run(maps).items():
            np.testing.assert_allclose(array, expected[name], atol=1e-6)
        with ThreadPoolExecutor(4) as pool:
            for found in pool.map(lambda _: many.embed(maps), range(20)):
                np.testing.assert_allclose(found, expected["embedding"], atol=1e-6)


def test_a_failed_batch_leaves_the_session_working(head_export, features) -> None:
    with opened(head_export(io_precision="fp16"), requests=2, threads=2) as session:
        expected = session.embed(features)
        large = features.copy()
        large[-1] *= 1e6
        for _ in range(5):
            with pytest.raises(UsageError, match="too large for the model's float16"):
                session.embed(large)
        np.testing.assert_array_equal(session.embed(features), expected)


def test_arrays_that_cannot_be_written_are_read(tiny_export) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 32, 64, 3), np.uint8)[:, :, ::2]
    frozen = np.ascontiguousarray(pixels)
    frozen.flags.writeable = False
    with opened(Path(tiny_export)) as session:
        np.testing.assert_array_equal(session.embed(frozen), session.embed(pixels))
        floats = session.prepare(frozen)
        floats.flags.writeable = False
        np.testing.assert_array_equal(session.embed(floats), session.embed(pixels))


def test_a_compiled_model_is_kept(head_export, features, tmp_path: Path) -> None:
    with opened(head_export(), model_cache=tmp_path / "cache") as session:
        expected = session.embed(features)
    kept = list((tmp_path / "cache").glob("*.blob"))
    assert kept
    kept[0].write_bytes(kept[0].read_bytes()[:1000])  # a run was killed amid
    for _ in range(2):
        with opened(head_export(), model_cache=tmp_path / "cache") as session:
            np.testing.assert_array_equal(session.embed(features), expected)


def test_a_foreign_model_with_an_embedding_runs(tmp_path: Path) -> None:
    with opened(small_graph(tmp_path / "foreign.onnx")) as session:
        x = np.random.default_rng(0).standard_normal((3, 4, 5, 6)).astype(np.float32)
        np.testing.assert_allclose(session.embed(x), np.maximum(x, 0).mean(axis=(2, 3)), atol=1e-6)
        assert session.info.manifest is None
        assert (session.info.precision, session.info.device) == (
            "unknown",
            "CPU, computes in float32",
        )
        assert session.info.input.shape == ("batch", 4, "?", "?")


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"output": "logits"}, r"output embedding \[batch, D\], found logits.*gsp-deploy adopt"),
        ({"shape": ("batch", "d"), "channels": None}, r"output embedding \[batch, D\], found emb"),
        ({"inputs": 2}, "one input of images, found x0"),
        ({"dtype": onnx.TensorProto.INT32}, "one input of images, found x0 of i32"),
        ({"operator": "NoSuchOperator"}, "OpenVINO cannot load it: .*NoSuchOperator"),
    ],
)
def test_models_of_other_forms_are_refused(options, named, tmp_path: Path) -> None:
    path = small_graph(tmp_path / "foreign.onnx", **options)
    with pytest.raises(ModelFileError, match=named) as caught:
        opened(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"text\n" * 20, b"\0" * 100, b"PK\3\4" + b"x" * 99])
def test_files_that_are_no_models(content: bytes, tmp_path: Path, capfd) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelFileError) as caught:
        opened(path)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def outcome(path: Path, inputs: np.ndarray) -> str:
    """Return nothing if the model runs, or how it is refused; other exceptions end the test."""
    try:
        with opened(path) as session:
            session.embed(inputs)
    except GspDeployError as error:
        return "refused in one line" if "\n" not in str(error) else str(error)
    return ""


@pytest.mark.parametrize("seed", range(2))
def test_damaged_models_run_or_are_refused(
    seed: int, head_export, features, tmp_path: Path, capfd
) -> None:
    """Truncated, and with flipped bits."""
    raw, draw = head_export(iterations=2).read_bytes(), random.Random(seed)
    path, found = tmp_path / "damaged.onnx", []
    for index in range(40):
        damaged = bytearray(raw)
        place = draw.randrange(len(raw))
        if index % 2:
            damaged[place] ^= 1 << draw.randrange(8)
        else:
            del damaged[place:]
        path.write_bytes(damaged)
        found.append(outcome(path, features))
    assert {"", "refused in one line"} == set(found)
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize(
    ("options", "error", "named"),
    [
        ({"provider": "cpu"}, UsageError, "takes no provider"),
        ({"device": "cuda"}, MissingCapabilityError, "runs OpenVINO on the CPU"),
    ],
)
def test_options_of_other_runtimes_are_refused(options, error, named, head_export) -> None:
    with pytest.raises(error, match=named):
        opened(head_export(), **options)


def test_other_kinds_do_not_run_in_it(head_checkpoint, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="a checkpoint runs in PyTorch, not in openvino"):
        opened(head_checkpoint)
    with pytest.raises(UsageError, match="an engine runs in TensorRT, not in openvino"):
        open_session(tmp_path / "a.engine", runtime="openvino")
    with pytest.raises(ModelFileError, match="no such model file"):
        opened(tmp_path / "none.onnx")

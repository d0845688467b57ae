"""From `open_session("model.engine")` to a session, and every way in which that ends in a line."""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from host_device import HostDevice
from tensorrt_double import install, write_engine

from gsp_deploy import open_session
from gsp_deploy.artifact.engine_manifest import PluginRecord
from gsp_deploy.errors import GspDeployError, MissingCapabilityError, ModelFileError, UsageError
from gsp_deploy.inspection import inspect_file
from gsp_deploy_cli.main import app, main

PLUGIN = PluginRecord("GeneralizedSumPooling", "gsp.deploy", "1", "libgsp.so", "ef" * 32, 1)
NOTHING = hashlib.sha256(b"").hexdigest()


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> HostDevice:
    return install(monkeypatch)


@pytest.fixture
def engine(device: HostDevice, tiny_export: str, tmp_path: Path) -> Path:
    return write_engine(device, Path(tiny_export), tmp_path / "tiny.engine")


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (11, 32, 32, 3), np.uint8)


def test_an_engine_embeds_as_its_onnx_does(engine, device, tiny_export, pixels) -> None:
    with open_session(engine) as session, open_session(tiny_export) as expected:
        assert session.info.runtime == "TensorRT 10.3.0"
        assert session.info.device == "cuda:0, host double"
        assert session.info.precision == "fp32"
        assert session.info.preprocessing == expected.info.preprocessing
        assert session.info.input.shape == ("batch", 3, 32, 32)
        np.testing.assert_allclose(session.embed(pixels), expected.embed(pixels), atol=1e-6)
    assert device.alive() == {}
    assert device.closed


@pytest.mark.parametrize(
    ("changes", "options"),
    [
        ({"lean": True}, {}),
        ({}, {"allow_host_code": True}),
        ({"plugin": replace(PLUGIN, inside=True)}, {"allow_host_code": True}),
    ],
    ids=["lean", "with its runtime", "with its plugin"],
)
def test_a_version_compatible_plan_embeds(
    changes, options, device, tiny_export, tmp_path, pixels
) -> None:
    path = tmp_path / "vc.engine"
    write_engine(device, Path(tiny_export), path, version_compatible=True, **changes)
    with open_session(path, **options) as session, open_session(tiny_export) as expected:
        np.testing.assert_allclose(session.embed(pixels), expected.embed(pixels), atol=1e-6)


def test_a_warm_up_captures_every_size_of_batch(engine, device, tiny_export, pixels) -> None:
    with open_session(engine) as session, open_session(tiny_export) as expected:
        session.warm_up(6)
        assert [shape[0] for _, shape in session.runner._shapes] == [1, 2, 4, 6]
        assert device.calls.count("begin_capture") == 4
        for count in (1, 3, 5, 6):
            found, wanted = session.embed(pixels[:count]), expected.embed(pixels[:count])
            np.testing.assert_allclose(found, wanted, atol=1e-6)
        assert sorted(shape[0] for _, shape in session.runner._shapes) == [1, 2, 4, 6]
        assert device.calls.count("begin_capture") == 4


def test_a_plan_without_manifest_runs_on_prepared_images(engine, pixels) -> None:
    (engine.parent / "tiny.engine.json").unlink()
    with open_session(engine) as session:
        assert session.info.preprocessing is None
        assert session.embed(np.zeros((2, 3, 32, 32), np.float32)).shape == (2, 8)


@pytest.mark.parametrize(
    ("changes", "options", "error", "words"),
    [
        ({}, {"provider": "cuda"}, UsageError, "takes no provider"),
        ({}, {"device": "cpu"}, UsageError, "runs on a GPU, not on cpu"),
        ({}, {"wait": "sleep"}, UsageError, "wait must be one of auto, spin, block"),
        ({"plan_bytes": 3}, {}, ModelFileError, "its manifest says 3"),
        ({"plan_sha256": "ab" * 32}, {}, ModelFileError, "its hash is not the manifest's"),
        ({"tensorrt_version": "10.1.0"}, {}, MissingCapabilityError, "TensorRT 10.1.0 and runs on"),
        ({"compute_capabilities": ("9.0",)}, {}, MissingCapabilityError, "host double has 8.6"),
        ({"plugin": PLUGIN}, {}, MissingCapabilityError, "--plugin with the path of libgsp.so"),
        ({"plugin": PLUGIN}, {"plugins": ["no.so"]}, ModelFileError, "no such plugin library"),
        ({"version_compatible": True}, {}, UsageError, "pass --allow-host-code"),
        (
            {"version_compatible": True, "lean": True, "tensorrt_version": "10.4.0"},
            {},
            MissingCapabilityError,
            "without its lean runtime",
        ),
        ({"options": {"strip_weights": True}}, {}, ModelFileError, "--into model.engine -o"),
    ],
)
def test_what_does_not_fit_is_one_line_before_tensorrt(
    changes, options, error, words, device, tiny_export, tmp_path
) -> None:
    path = write_engine(device, Path(tiny_export), tmp_path / "model.engine", **changes)
    with pytest.raises(error, match=words) as caught:
        open_session(path, **options)
    assert "\n" not in str(caught.value)
    assert device.alive() == {}


def test_plugins_are_loaded_or_named(device, tiny_export, tmp_path) -> None:
    plugin = replace(PLUGIN, sha256=NOTHING)
    path = write_engine(device, Path(tiny_export), tmp_path / "model.engine", plugin=plugin)
    for name in ("libgsp.so", "broken.so"):
        (tmp_path / name).write_bytes(b"")
    with open_session(path, plugins=[tmp_path / "libgsp.so"]) as session:
        assert session.info.embedding_dim == 8
    with pytest.raises(ModelFileError, match=r"broken\.so: TensorRT cannot load the plugin"):
        open_session(path, plugins=[tmp_path / "broken.so"])


def test_a_damaged_plan_is_told_in_tensorrts_words(engine, device) -> None:
    engine.write_bytes(b"noise")
    (engine.parent / "tiny.engine.json").unlink()
    with pytest.raises(ModelFileError, match=r"10\.3\.0 cannot load it: .*magic tag; there is no"):
        open_session(engine)
    assert device.closed


def test_without_a_gpu_it_says_so_with_exit_code_4(engine, monkeypatch) -> None:
    monkeypatch.undo()  # no doubles: this very machine
    with pytest.raises(GspDeployError) as caught:
        open_session(engine)
    assert caught.value.exit_code == 4
    assert "\n" not in str(caught.value)


def test_inspect_tells_of_an_engine(engine, device) -> None:
    found = inspect_file(engine)
    assert found.kind == "engine"
    assert found.facts["profiles"] == ["images 1x3x32x32 : 4x3x32x32 : 8x3x32x32"]
    assert found.facts["export"]["precision"] == "fp32"
    assert found.warnings == ()
    assert inspect_file(engine.with_name("tiny.engine.json")).kind == "manifest of an engine"
    engine.write_bytes(b"other")
    assert "its manifest says" in inspect_file(engine).warnings[0]
    engine.with_name("tiny.engine.json").unlink()
    assert inspect_file(engine).kind == "engine, not built by gsp-deploy"


def run(monkeypatch, capsys, *words: str) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["gsp-deploy", *words])
    code = 0
    try:
        main()
    except SystemExit as stop:
        code = int(stop.code or 0)
    told = capsys.readouterr()
    return code, told.out, told.err


def test_check_and_embed_take_engines(
    engine, device, tiny_checkpoint, tmp_path, monkeypatch, capsys, pixels
) -> None:
    assert app is not None
    from PIL import Image

    folder = tmp_path / "images"
    folder.mkdir()
    for index, image in enumerate(pixels):
        Image.fromarray(image).save(folder / f"{index}.png")
    words = ["check", str(tiny_checkpoint), str(engine), "--images", str(folder), "--json"]
    code, out, err = run(monkeypatch, capsys, *words, "--labels", "none")
    assert code == 0, err
    assert json.loads(out)["document"] == "check"
    code, out, err = run(
        monkeypatch, capsys, "embed", str(engine), str(folder), "-o", str(tmp_path / "e.npy"),
        "--no-cuda-graphs", "--json",
    )  # fmt: skip
    assert code == 0, err
    assert json.loads(out)["runtime"].startswith("TensorRT 10.3.0 cuda:0")
    assert "begin_capture" not in device.calls[-60:]

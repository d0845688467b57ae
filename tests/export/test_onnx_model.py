"""An exported file is valid, described, complete or absent, and has its weights beside it."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest

import gsp_deploy
from gsp_deploy import load_checkpoint, open_session
from gsp_deploy.artifact import ExportManifest, read_sidecar
from gsp_deploy.artifact.identity import identity
from gsp_deploy.base.files import sha256_of
from gsp_deploy.checkpoint import Provenance, save_checkpoint
from gsp_deploy.errors import GspDeployError, ModelFileError, UsageError
from gsp_deploy.export import ExportOptions, Source, export_onnx, model_file, onnx_model


def contents(folder: Path) -> dict[str, bytes]:
    """Return every file of a folder, hidden leftovers included."""
    return {p.name: p.read_bytes() if p.is_file() else b"folder" for p in folder.iterdir()}


@pytest.mark.parametrize("options", [{}, {"precision": "fp16"}, {"external_data": True}])
def test_the_written_file_is_valid_and_the_only_one(
    options, build_head, calibration, tmp_path
) -> None:
    path = tmp_path / "made" / "model.onnx"
    exported = export_onnx(build_head(), path, ExportOptions(**options), calibration)
    assert exported.path == path
    onnx.checker.check_model(str(path), full_check=True)
    data = {"model.onnx.data"} if options.get("external_data") else set()
    assert set(contents(path.parent)) == {"model.onnx", "model.onnx.json"} | data
    assert read_sidecar(path) == exported.manifest
    assert exported.manifest.sha256 == identity(path)


def test_metadata_says_what_the_file_is(conv_model, photographs, tmp_path) -> None:
    checkpoint, path = tmp_path / "model.safetensors", tmp_path / "model.onnx"
    provenance = Provenance(license="Apache-2.0", dataset="folder:birds", metrics={"R@1": 0.5})
    save_checkpoint(conv_model, checkpoint, provenance)
    source = Source.of(checkpoint)
    export_onnx(load_checkpoint(checkpoint), path, ExportOptions(), photographs, source)
    file = onnx.load(path)
    assert (file.producer_name, file.producer_version) == ("gsp-deploy", gsp_deploy.__version__)
    found = {entry.key: entry.value for entry in file.metadata_props}
    assert found["gsp_deploy.version"] == gsp_deploy.__version__
    assert found["gsp_deploy.model_name"] == "small_cnn_s8"
    assert found["gsp_deploy.license"] == "Apache-2.0"
    manifest = ExportManifest.from_json(found["gsp_deploy.manifest"], path)
    assert manifest.model == conv_model.config
    assert manifest.source_sha256 == sha256_of(checkpoint)
    assert manifest.provenance["dataset"] == "folder:birds"
    assert manifest.versions["onnxruntime"]
    assert manifest.preprocessing == conv_model.config.preprocessing
    assert (manifest.precision, manifest.opset) == ("fp32", 18)
    assert [(t.name, t.dtype, t.shape) for t in manifest.inputs] == [
        ("images", "float32", ("batch", 3, 40, 48))
    ]
    assert [(t.name, t.dtype, t.shape) for t in manifest.outputs] == [
        ("embedding", "float32", ("batch", 16))
    ]
    beside = read_sidecar(path)
    assert beside.sha256 == sha256_of(path)
    assert manifest == ExportManifest(**{**vars(beside), "sha256": None})


def test_weights_of_unknown_licence_say_so(build_head, export_head) -> None:
    found = {e.key: e.value for e in onnx.load(export_head(build_head())).metadata_props}
    assert found["gsp_deploy.license"] == "unknown"


def test_the_same_model_is_exported_as_the_same_bytes(build_head, export_head) -> None:
    model = build_head()
    first = export_head(model).read_bytes()
    assert export_head(model).read_bytes() == first


def test_weights_in_a_file_of_their_own(
    build_head, export_head, errors_against_torch, features, tmp_path
) -> None:
    model = build_head(num_prototypes=200)
    path = export_head(model, external_data=True, iterations=8)
    data = path.with_name("head.onnx.data")
    assert data.stat().st_size >= 200 * 7 * 4
    assert errors_against_torch(path, model, features)["embedding"] < 3e-6
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    for name in ("head.onnx", "head.onnx.json", "head.onnx.data"):
        shutil.copy(path.with_name(name), moved)
    assert errors_against_torch(moved / "head.onnx", model, features)["embedding"] < 3e-6


@pytest.mark.parametrize("with_sidecar", [True, False])
def test_a_missing_data_file_is_named(with_sidecar, build_head, export_head, tmp_path) -> None:
    path = export_head(build_head(num_prototypes=200), external_data=True)
    path.with_name("head.onnx.data").rename(tmp_path / "lost")
    if not with_sidecar:
        path.with_name("head.onnx.json").unlink()
    with pytest.raises(ModelFileError, match=r"head\.onnx\.data") as caught:
        open_session(path)
    assert "\n" not in str(caught.value)


def test_a_model_too_large_for_protobuf_takes_external_data(
    build_head, export_head, monkeypatch
) -> None:
    monkeypatch.setattr(model_file, "EXTERNAL_DATA_BYTES", 5000)
    path = export_head(build_head(num_prototypes=200))
    assert read_sidecar(path).external_data == "head.onnx.data"
    assert path.with_name("head.onnx.data").is_file()
    with open_session(path) as session:
        assert session.info.manifest.external_data == "head.onnx.data"


def no_space(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def invalid(*_: object, **__: object) -> None:
    raise onnx.checker.ValidationError("first line\nsecond line")


@pytest.mark.parametrize("external_data", [True, False])
@pytest.mark.parametrize(
    ("where", "what", "failure", "reason"),
    [
        (os, "fsync", no_space, "No space left"),
        (os, "replace", no_space, "No space left"),
        (onnx_model.ir, "save", no_space, "No space left"),
        (onnx.checker, "check_model", invalid, "invalid: first line$"),
    ],
)
def test_a_failure_leaves_what_was_there(
    where, what, failure, reason, external_data, build_head, export_head, tmp_path, monkeypatch
) -> None:
    path = export_head(build_head(seed=1), external_data=True)
    before = contents(tmp_path)

    # the certificate writes files of its own: only what concerns the target fails
    original = getattr(where, what)

    def fail(*arguments: object, **options: object) -> object:
        about = [str(a) for a in arguments]
        if what == "fsync" or any(str(tmp_path) in a for a in about):
            return failure()
        return original(*arguments, **options)

    monkeypatch.setattr(where, what, fail)
    with pytest.raises(GspDeployError, match=reason):
        export_head(build_head(seed=2), external_data=external_data)
    monkeypatch.undo()
    assert contents(tmp_path) == before
    with open_session(path) as session:
        session.embed(np.ones((1, 12, 3, 4), np.float32))


def test_an_interrupt_leaves_what_was_there(build_head, export_head, tmp_path, monkeypatch) -> None:
    export_head(build_head(seed=1))
    before = contents(tmp_path)

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(onnx.checker, "check_model", interrupt)
    with pytest.raises(KeyboardInterrupt):
        export_head(build_head(seed=2))
    assert contents(tmp_path) == before


@pytest.mark.parametrize("place", ["file/model.onnx", "folder"])
def test_places_that_cannot_be_written(place, build_head, calibration, tmp_path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder").mkdir()
    with pytest.raises(GspDeployError, match="cannot write"):
        export_onnx(build_head(), tmp_path / place, ExportOptions(), calibration)
    assert set(contents(tmp_path)) == {"file", "folder"}


@pytest.mark.parametrize(
    ("settings", "options", "reason"),
    [
        ({"baseline": True}, {"outputs": ("weights",)}, "has no weights"),
        ({}, {"include_preprocessing": True}, "feature maps"),
    ],
)
def test_an_option_that_the_model_lacks_is_refused(
    settings, options, reason, build_head, export_head
) -> None:
    with pytest.raises(UsageError, match=reason):
        export_head(build_head(**settings), **options)


@pytest.mark.parametrize(
    "options",
    [
        {"precision": "fp8"}, {"io_precision": "int8"}, {"outputs": ("logits",)},
        {"solver": "sinkhorn"}, {"iterations": 0}, {"iterations": 2.5}, {"iterations": True},
    ],
)  # fmt: skip
def test_options_outside_their_domain(options) -> None:
    with pytest.raises(UsageError, match=next(iter(options)).removesuffix("s")):
        ExportOptions(**options)


def test_an_output_asked_for_twice_is_there_once(build_head, export_head) -> None:
    path = export_head(build_head(), outputs=("weights", "weights"))
    assert [o.name for o in onnx.load(path).graph.output] == ["embedding", "weights"]


def test_the_sidecar_is_plain_json(build_head, export_head) -> None:
    path = export_head(build_head())
    data = json.loads(path.with_name("head.onnx.json").read_text())
    assert data["certificate"]["solver"] == "certified"
    assert data["model"]["head"]["kind"] == "gsp"

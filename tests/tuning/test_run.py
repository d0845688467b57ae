"""A study that is killed at any moment continues, and nothing is measured twice."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from gsp_deploy import EmbeddingModel, GSPConfig, ModelConfig, PreprocessingSpec
from gsp_deploy.artifact import sidecar_path
from gsp_deploy.artifact.artifact import Artifact
from gsp_deploy.artifact.engine_manifest import ShapeRange
from gsp_deploy.base.files import sha256_of
from gsp_deploy.benchmark import BenchmarkSettings
from gsp_deploy.checkpoint import save_checkpoint
from gsp_deploy.data import open_dataset
from gsp_deploy.engine.machine import Machine
from gsp_deploy.errors import CheckpointError, GspDeployError, MissingCapabilityError, UsageError
from gsp_deploy.runtime import open_session, openvino_model
from gsp_deploy.tuning import (
    Limits,
    TuningSettings,
    TuningSpace,
    choose,
    deliver,
    tune,
)
from gsp_deploy.tuning.engines import engine_of
from gsp_deploy.tuning.images import CalibrationImages, scoring_images
from gsp_deploy.tuning.measurement import Workshop
from gsp_deploy.tuning.plot import plot_front
from gsp_deploy.tuning.study import Quality, Speed, open_study

SPEC = "glyphs:clutter=0,size=32,scale=0.6,images_per_class=4,train_classes=6,test_classes=6"
SPACE = TuningSpace(("fp32", "fp16", "int8"), (None, 1, 3), (32, 24))
SETTINGS = TuningSettings(
    benchmark=BenchmarkSettings((1, 2), warmup=0, repeats=2, threads=1, twin=False, memory=False)
)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    head = GSPConfig(16, embedding_dim=8, num_prototypes=4, entropy_weight=20.0, solver="newton")
    config = ModelConfig("small_cnn_s8", head, PreprocessingSpec(32, 32), {"width": 4})
    save_checkpoint(EmbeddingModel(config), path)
    return path


@pytest.fixture(scope="module")
def dataset():
    return open_dataset(SPEC)


class Killed(BaseException):
    """Stands in for a kill: the running code cannot handle it."""


@pytest.fixture
def faked(monkeypatch):
    """Replace measurements by stubs that list their calls; the third kind of candidate fails."""
    made = []

    def export(self, candidate, path, sibling=None):
        made.append(("export", candidate.name))
        if candidate.precision == "int8" and candidate.size == 24:
            raise GspDeployError("no")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(candidate.name)
        sidecar_path(path).write_text("{}")
        return candidate

    def score(self, candidate, runtime):
        if isinstance(candidate, Artifact):  # the file that another runtime has measured
            made.append(("score", f"{candidate.path.stem}-{runtime}"))
            return Quality("a hash", 3, 50.0, 60.0, False)
        made.append(("score", candidate.name))
        steps = candidate.steps or 3
        return Quality("a hash", steps, 50.0, 60.0, candidate.precision == "fp16")

    def time(self, model, reference, batches, runtime):
        made.append(("time", model.stem if runtime == "onnxruntime" else f"{model.stem}-{runtime}"))
        return {batch: Speed(0.5, 0.4, 0.6, 4.0) for batch in batches}

    for name, fake in {"export": export, "score": score, "time": time}.items():
        monkeypatch.setattr(Workshop, name, fake)
    monkeypatch.setattr("gsp_deploy.tuning.study_run.identity", lambda path: "a hash")
    monkeypatch.setattr("gsp_deploy.tuning.study_run.read_sidecar", lambda path: path.exists())
    return made


def test_every_candidate_is_measured_once(faked, checkpoint, dataset, tmp_path):
    tuning = tune(checkpoint, dataset, tmp_path / "study", SPACE, SETTINGS)
    assert len(tuning.candidates) == 18
    scored = [name for kind, name in faked if kind == "score"]
    # The certified number of steps is 3, so the candidate with 3 steps is the same network.
    assert scored == [
        f"{precision}-{size}px-{steps}"
        for size in (32, 24)
        for precision in ("fp32", "fp16", "int8")
        for steps in ("certified", 1)
        if (precision, size) != ("int8", 24)
    ]
    timed = [name for kind, name in faked if kind == "time"]
    assert timed == [name for name in scored if not name.startswith("fp16")]
    assert tuning.study.failures == {f"int8-24px-{steps}": "no" for steps in ("certified", 1, 3)}
    assert len(tuning.points) == 2 * len(scored)
    assert {p.latency_ms for p in tuning.points if p.candidate.precision == "fp16"} == {None}
    assert "fp16: emulated on this device" in " ".join(tuning.notes)
    assert "12 of 12 latencies are noisy" in tuning.notes[-1]  # quartiles of 0.4 and 0.6


def test_a_study_killed_at_any_stage_continues(faked, checkpoint, dataset, tmp_path):
    """Kill the study before each stage in turn: every measurement is made once."""
    folder = tmp_path / "study"
    whole = tune(checkpoint, dataset, tmp_path / "whole", SPACE, SETTINGS)
    expected = [stage for stage in faked if stage[0] != "export"]
    faked.clear()
    for _ in range(200):
        heard = []

        def killed_after_a_stage(doing, done, total, heard=heard):
            heard.append(doing)
            if len(heard) == 3 and doing != "done":  # exporting, scoring, and then
                raise Killed

        try:
            found = tune(checkpoint, dataset, folder, SPACE, SETTINGS, observe=killed_after_a_stage)
            break
        except Killed:
            continue
    assert [stage for stage in faked if stage[0] != "export"] == expected
    assert found.points == whole.points


def test_a_wider_space_adds_to_a_study(faked, checkpoint, dataset, tmp_path):
    folder = tmp_path / "study"
    tune(checkpoint, dataset, folder, TuningSpace(("fp32",), (None,), (32,)), SETTINGS)
    faked.clear()
    wider = dataclasses.replace(
        SETTINGS, benchmark=dataclasses.replace(SETTINGS.benchmark, batches=(1, 2, 4))
    )
    tuning = tune(checkpoint, dataset, folder, TuningSpace(("fp32",), (None,), (32, 24)), wider)
    assert ("score", "fp32-32px-certified") not in faked
    assert ("time", "fp32-32px-certified") in faked  # at the new batch size
    assert {point.batch for point in tuning.points} == {1, 2, 4}
    assert len(tuning.points) == 6


def test_runtimes_share_an_export(faked, checkpoint, dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(openvino_model, "processor_precisions", lambda: ("fp32", "bf16"))
    both = TuningSpace(("fp32", "bf16", "fp16"), (None,), (32,), ("onnxruntime", "openvino"))
    tuning = tune(checkpoint, dataset, tmp_path / "study", both, SETTINGS)
    names = [f"{precision}-32px-certified" for precision in ("fp32", "bf16", "fp16")]
    assert [name for kind, name in faked if kind == "export"] == names
    native = [f"{name}-openvino" for name in names[:2]]  # fp16 would only be imitated
    assert {n for k, n in faked if k == "score" and n.endswith("openvino")} == set(native)
    assert {n for k, n in faked if k == "time" and n.endswith("openvino")} == set(native)
    assert {p.form for p in tuning.points if p.candidate.runtime == "openvino"} == {
        "fp32, 32 px, 3 steps, OpenVINO",
        "bf16, 32 px, 3 steps, OpenVINO",
    }


@pytest.mark.parametrize(
    ("benchmark", "engines"),
    [({"device": "cuda"}, False), ({"provider": "cpu"}, False), ({}, True)],
)
def test_openvino_is_measured_on_the_cpu_alone(benchmark, engines, checkpoint, dataset, tmp_path):
    settings = TuningSettings(
        benchmark=dataclasses.replace(SETTINGS.benchmark, **benchmark), engines=engines
    )
    with pytest.raises(UsageError, match="OpenVINO runs exports on the CPU"):
        tune(checkpoint, dataset, tmp_path, TuningSpace(runtimes=("openvino",)), settings)


def test_a_study_of_something_else_is_refused(faked, checkpoint, dataset, tmp_path):
    folder = tmp_path / "study"
    space = TuningSpace(("fp32",), (None,), (32,))
    tune(checkpoint, dataset, folder, space, SETTINGS)
    other = dataclasses.replace(
        SETTINGS, benchmark=dataclasses.replace(SETTINGS.benchmark, threads=2)
    )
    with pytest.raises(UsageError, match="--threads: it was 1, now it is 2; choose another"):
        tune(checkpoint, dataset, folder, space, other)
    tune(checkpoint, dataset, folder, space, other, force=True)
    (folder / "study.json").write_text('{"document": "tune-study"')
    with pytest.raises(UsageError, match="not a study that can be continued"):
        tune(checkpoint, dataset, folder, space, other)
    (tmp_path / "killed" / ".study.json.x").mkdir(parents=True)  # a write that was killed
    open_study(tmp_path / "killed", {}, start_over=False)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("mine")
    with pytest.raises(UsageError, match="contains no study"):
        open_study(tmp_path / "full", {}, start_over=True)


def test_a_difference_of_studies_is_in_the_users_words(tmp_path):
    """Hashes are compared, but never shown."""
    folder = tmp_path / "study"
    open_study(folder, {"data": "af01"}, {"data": "cub:birds"}, start_over=False)
    with pytest.raises(UsageError, match="--data and --images: it was cub:birds, now it is mine"):
        open_study(folder, {"data": "be02"}, {"data": "mine"}, start_over=False)
    with pytest.raises(UsageError, match="the files of cub:birds have changed"):
        open_study(folder, {"data": "be02"}, {"data": "cub:birds"}, start_over=False)
    found = open_study(folder, {"data": "af01"}, {"data": "./cub:birds"}, start_over=False)
    assert found.given == {"data": "cub:birds"}


def test_engines_are_built_once_per_file_and_batch(monkeypatch, tmp_path):
    built, manifests = [], {}

    def build(onnx, plan, options):
        built.append(options.batches[0].max)
        plan.write_text("a plan")
        shapes = {"images": ShapeRange((1, 3), (1, 3), (options.batches[0].max, 3))}
        manifests[plan] = SimpleNamespace(onnx_sha256=sha256_of(onnx), profiles=(shapes,))

    monkeypatch.setattr("gsp_deploy.tuning.engines.build_engine", build)
    monkeypatch.setattr("gsp_deploy.tuning.engines.read_engine_sidecar", manifests.get)
    onnx = tmp_path / "model.onnx"
    onnx.write_text("one")
    for batch, expected in ((8, [8]), (4, [8]), (16, [8, 16])):
        assert engine_of(onnx, batch) == tmp_path / "model.engine"
        assert built == expected
    onnx.write_text("another")
    engine_of(onnx, 8)
    assert built == [8, 16, 8]


def test_engines_need_a_gpu(monkeypatch, checkpoint, dataset, tmp_path):
    here = Machine("tensorrt", "10.3.0", None, None, None, "linux x86_64")
    monkeypatch.setattr(Machine, "here", lambda: here)
    settings = dataclasses.replace(SETTINGS, engines=True)
    with pytest.raises(MissingCapabilityError, match="no GPU that CUDA can use") as caught:
        tune(checkpoint, dataset, tmp_path / "study", SPACE, settings)
    assert caught.value.exit_code == 4
    assert not (tmp_path / "study").exists()


def test_inputs_that_cannot_be_tuned_are_refused(checkpoint, tiny_export, dataset, tmp_path):
    without_training = dataclasses.replace(dataset, train=dataset.train.subset([]))
    with pytest.raises(UsageError, match="int8 needs images to calibrate on"):
        tune(checkpoint, without_training, tmp_path / "a", SPACE, SETTINGS)
    with pytest.raises(UsageError, match="starts from a checkpoint"):
        tune(tiny_export, dataset, tmp_path / "b", SPACE, SETTINGS)
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        tune(tmp_path / "gone.safetensors", dataset, tmp_path / "c", SPACE, SETTINGS)
    assert not list(tmp_path.iterdir())


def test_scoring_takes_whole_classes(dataset):
    fewer = scoring_images(dataset, 12)
    assert len(fewer.test) == 12
    assert np.bincount(fewer.test.labels)[np.unique(fewer.test.labels)].tolist() == [4, 4, 4]
    (note,) = fewer.notes
    assert note.startswith("scored on 12 of 24 test images, those of 3 of 6 classes")
    assert "raise --images" in note
    assert scoring_images(dataset, 24) is dataset


def test_calibration_takes_the_training_part_or_a_folder(dataset, tmp_path):
    spec = PreprocessingSpec(32, 32)
    images = CalibrationImages(dataset, None)
    assert len(images.at(spec).calibration.inputs) == len(dataset.train) == 24
    assert images.at(spec) is images.at(spec)
    assert "fewer than 100" in images.at(spec).notes[0]
    dataset.train.image(0).save(tmp_path / "one.png")
    assert len(CalibrationImages(dataset, tmp_path).at(spec).calibration.inputs) == 1


def test_a_real_study_from_checkpoint_to_file(checkpoint, dataset, tmp_path):
    runtimes = ("onnxruntime", "openvino")
    space = TuningSpace(("fp32", "fp16", "int8"), (None,), (32,), runtimes)
    settings = dataclasses.replace(SETTINGS, int8_drop=50.0)
    tuning = tune(checkpoint, dataset, tmp_path / "study", space, settings)
    assert not tuning.study.failures
    in_openvino = [p for p in tuning.points if p.candidate.runtime == "openvino" and p.batch == 1]
    assert in_openvino[0].candidate.precision == "fp32"
    assert abs(in_openvino[0].drop) < 1e-6
    assert all(point.latency_ms > 0 for point in in_openvino)
    reference, half, int8 = (p for p in tuning.points[:6] if p not in in_openvino and p.batch == 1)
    assert reference.drop == 0
    assert reference.speed.ratio == 1
    assert half.latency_ms is None
    assert int8.speed.ratio_low <= int8.speed.ratio <= int8.speed.ratio_high
    assert int8.latency_ms > 0
    chosen = choose(tuning.points, Limits(max_latency=10_000))
    output = tmp_path / "out" / "model.onnx"
    deliver(tuning, chosen, output)
    settings = json.loads((tmp_path / "out" / "model.onnx.tune.json").read_text())
    assert settings["candidate"]["precision"] == chosen.candidate.precision
    with open_session(output, runtime=chosen.candidate.runtime) as session:
        assert session.info.manifest.precision == chosen.candidate.precision
        assert session.embed(np.zeros((1, 32, 32, 3), np.uint8)).shape == (1, 8)
    plot_front(tuning, tmp_path / "front.png", chosen)
    assert (tmp_path / "front.png").read_bytes().startswith(b"\x89PNG")

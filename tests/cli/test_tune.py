"""`gsp-deploy tune` as a user meets it: killed, continued, what it prints and chooses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from gsp_deploy.artifact import read_sidecar
from gsp_deploy.tuning.front import Point
from gsp_deploy.tuning.space import Candidate
from gsp_deploy.tuning.study import Speed
from gsp_deploy_cli.tables.tune import doubts_of

DATA = "glyphs:clutter=0,size=32,scale=0.6,images_per_class=3,train_classes=4,test_classes=4"
SETTINGS = (
    "--data", DATA, "--precision", "fp32,fp16", "--steps", "certified,2", "--size", "32",
    "--batch", "1,2", "--repeats", "3", "--threads", "1", "--runtime", "onnxruntime,openvino",
)  # fmt: skip


@pytest.fixture
def run(run_here):
    """Run the command behind the real boundary; return exit code, stdout and stderr."""
    return partial(run_here, "tune")


@pytest.fixture(scope="module")
def folder(tiny_checkpoint: Path, tmp_path_factory) -> Path:
    """A study whose process was killed, without a chance to react, after its first results."""
    folder = tmp_path_factory.mktemp("studies") / "study"
    command = [sys.executable, "-m", "gsp_deploy_cli.main", "tune", str(tiny_checkpoint)]
    child = subprocess.Popen(
        [*command, *SETTINGS, "--folder", str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    while child.poll() is None and not qualities(folder):
        time.sleep(0.02)
    child.kill()
    output, _ = child.communicate()
    assert child.returncode == -9, output
    return folder


def qualities(folder: Path) -> dict[str, dict[str, object]]:
    path = folder / "study.json"
    if not path.exists():
        return {}
    found: dict[str, dict[str, object]] = json.loads(path.read_text())["qualities"]
    return found


def test_a_killed_study_goes_on_and_chooses(run, tiny_checkpoint, folder, tmp_path):
    before = qualities(folder)
    first = folder / "models" / "fp32-32px-certified.onnx"
    made = first.stat().st_mtime_ns
    code, out, err = run(tiny_checkpoint, *SETTINGS, "--folder", folder, "--json")
    assert code == 0, err
    document = json.loads(out)
    assert (document["document"], document["version"], document["failures"]) == ("tune", 1, {})
    assert first.stat().st_mtime_ns == made
    assert before.items() <= qualities(folder).items()
    assert document["chosen"] is None
    points = document["points"]
    assert {p["batch"] for p in points} == {1, 2}
    assert all((p["latency_ms"] is None) == (p["candidate"]["precision"] == "fp16") for p in points)
    assert any(p["on_front"] for p in points)
    assert Path(document["figure"]).read_bytes().startswith(b"\x89PNG")

    output = tmp_path / "chosen.onnx"
    limits = ("--max-latency", "10000", "--max-drop", "99", "-o", output)
    code, out, err = run(tiny_checkpoint, *SETTINGS, "--folder", folder, *limits)
    assert code == 0, err
    assert "chosen" in out
    assert "Emulated on this device: accuracy alone" in out
    assert "fp16: emulated on this device" in err
    assert (
        max(len(line.rstrip()) for line in out.splitlines() if str(tmp_path)[:9] not in line) <= 80
    )
    settings = json.loads(output.with_name("chosen.onnx.tune.json").read_text())
    assert settings["latency_ms"] <= 10000
    assert read_sidecar(output).precision == settings["candidate"]["precision"] == "fp32"

    code, _, err = run(tiny_checkpoint, *SETTINGS, "--folder", folder, *limits)
    assert (code, "--force" in err) == (2, True)
    code, out, err = run(tiny_checkpoint, *SETTINGS, "--folder", folder, "--max-latency", "1e-9")
    assert code == 3
    assert "Batch 1" in out  # what there is, all the same
    assert "no candidate is within 1e-09 ms" in err.splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("-o", "x.onnx"), 2, "pass --max-latency or --max-drop"),
        (("-o", "x.engine", "--max-drop", "1"), 2, "expected an output ending in .onnx"),
        (("--max-drop", "-1"), 2, "the drop allowed must be from 0 to 100 points"),
        (("--steps", "few"), 2, "--steps takes numbers and `certified`, as in 1,8, got 'few'"),
        (("--size", "big"), 2, "--size takes whole numbers"),
        (("--precision", "fp8"), 2, "precision must be one of fp32, fp16, bf16, int8"),
        (("--data", "nowhere:x"), 2, "no data set 'nowhere:x'"),
        (("--images", "1"), 2, "at least 2 images"),
        (("--runtime", "tensorrt"), 2, "runtime must be one of onnxruntime, openvino"),
    ],
)
def test_a_mistake_is_one_line(run, tiny_checkpoint, tmp_path, monkeypatch, arguments, code, said):
    monkeypatch.chdir(tmp_path)
    data = () if "--data" in arguments else ("--data", DATA)
    found, out, err = run(tiny_checkpoint, *data, *arguments)
    assert (found, out) == (code, "")
    (line,) = [line for line in err.splitlines() if line.startswith("error: ")]
    assert said in line
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(("low", "high", "told"), [(0.98, 1.02, []), (0.5, 2.0, ["4.0 times"])])
def test_a_choice_by_noise_is_told(low: float, high: float, told: list[str]) -> None:
    speed = Speed(ratio=1.0, ratio_low=low, ratio_high=high, reference_p50=1.0)
    point = Point(Candidate("fp32", None, 32), 3, 1, 50.0, 70.0, 0.0, speed, 1.0)
    doubts = list(doubts_of(point))
    assert len(doubts) == len(told)
    assert all(words in doubt for words, doubt in zip(told, doubts, strict=True))
    assert not list(doubts_of(None))

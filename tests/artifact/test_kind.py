"""The table of kinds: the kind of each path, and the functions that each row names."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from gsp_deploy.artifact.kind import (
    BUNDLE,
    CHECKPOINT,
    ENGINE,
    KINDS,
    ONNX,
    Kind,
    endings,
    kind_of,
    require_kind,
)
from gsp_deploy.errors import UsageError
from gsp_deploy.runtime import implied_device, open_session


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.onnx", ONNX),
        ("a.engine", ENGINE),
        ("a.plan", ENGINE),
        ("a.b.trt", ENGINE),
        ("a.safetensors", CHECKPOINT),
        ("a.pt", CHECKPOINT),
        ("a.pth", CHECKPOINT),
        ("a.ONNX", None),
        ("a.onnx.json", None),
        ("onnx", None),
        ("", None),
    ],
)
def test_suffix_decides_the_kind(name: str, kind: Kind | None) -> None:
    assert kind_of(name) is kind


def test_a_folder_with_a_manifest_is_a_bundle(tmp_path: Path) -> None:
    assert kind_of(tmp_path) is None
    (tmp_path / "bundle.json").write_text("{}")
    assert kind_of(tmp_path) is BUNDLE


def test_no_suffix_belongs_to_two_kinds() -> None:
    suffixes = [suffix for kind in KINDS for suffix in kind.suffixes]
    assert len(suffixes) == len(set(suffixes))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_rows_refer_to_what_there_is(kind: Kind) -> None:
    pytest.importorskip("torch")
    for reference in filter(None, (kind.reader, kind.document, *(r.opener for r in kind.runtimes))):
        module, name = reference.split(":")
        assert callable(getattr(import_module(module), name))


def test_an_unknown_kind_is_refused_with_the_accepted_ones() -> None:
    with pytest.raises(
        UsageError, match=r"ending in \.onnx, \.engine, \.plan, \.trt, got \.txt; x"
    ):
        require_kind("a.txt", ONNX, ENGINE, hint="x")
    with pytest.raises(UsageError, match="got no suffix"):
        open_session("model")
    assert endings(CHECKPOINT) == ".safetensors, .pt, .pth"


def test_engines_imply_a_gpu_and_refuse_to_do_without() -> None:
    assert (implied_device(["a.onnx", "b.plan"]), implied_device(["a.onnx"])) == ("cuda", "cpu")
    with pytest.raises(UsageError, match="an engine runs on a GPU, not on cpu"):
        open_session("a.engine", "cpu")


def test_the_table_needs_no_runtime() -> None:
    heavy = ("torch", "onnx", "onnxruntime", "tensorrt", "faiss")
    code = f"import sys, gsp_deploy.runtime; print([m for m in {heavy} if m in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"

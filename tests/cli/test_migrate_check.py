"""migrate-check as a command: its document, its exit codes, and bad input."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

from gsp_deploy.artifact import read_sidecar, write_sidecar
from gsp_deploy.base.files import sha256_of


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for number in range(24):
        noise = np.random.default_rng(number).integers(0, 256, (3, 3, 3), dtype=np.uint8)
        (folder / f"{number % 4}").mkdir(exist_ok=True)
        Image.fromarray(noise).resize((40, 40)).save(folder / f"{number % 4}" / f"{number}.png")
    return folder


@pytest.fixture
def gallery(tiny_export, pictures: Path, tmp_path: Path, run_here) -> Path:
    assert run_here("index", tiny_export, pictures, "-o", tmp_path / "gallery")[0] == 0
    return tmp_path / "gallery"


def test_the_checkpoint_may_search_its_exports_gallery(
    tiny_export, tiny_checkpoint, pictures, gallery: Path, run_here
) -> None:
    options = ("--gallery", gallery, "--old", tiny_export, "--images", pictures)
    code, out, err = run_here("migrate-check", *options, "--new", tiny_checkpoint, "--json")
    assert code == 0, err
    found = json.loads(out)
    assert (found["document"], found["queries"], found["members"]) == ("migrate-check", 24, 24)
    assert (found["passed"], found["kept_at"]["10"]["value"]) == (True, 1.0)
    assert found["old"] == pytest.approx(found["new"])


def test_a_changed_network_may_not(
    tiny_export, pictures, gallery: Path, tmp_path: Path, run_here
) -> None:
    model, other = onnx.load(tiny_export), tmp_path / "other.onnx"
    generator = np.random.default_rng(0)
    for tensor in model.graph.initializer:
        values = onnx.numpy_helper.to_array(tensor)
        if values.dtype == np.float32 and values.ndim == 4:
            noise = generator.standard_normal(values.shape) * values.std()
            changed = onnx.numpy_helper.from_array((values + noise).astype(np.float32))
            tensor.raw_data = changed.raw_data
    del model.metadata_props[:]
    onnx.save(model, other)
    write_sidecar(replace(read_sidecar(tiny_export), sha256=sha256_of(other)), other)
    options = ("--gallery", gallery, "--old", tiny_export, "--images", pictures)
    code, out, err = run_here("migrate-check", *options, "--new", other)
    assert code == 3, out + err
    assert "neighbours kept@10" in out
    assert "may not search the gallery" in " ".join(err.split())
    code, _, err = run_here("migrate-check", *options[:2], "--old", other, "--new", other,
                            "--images", pictures)  # fmt: skip
    assert (code, "the queries are from" in " ".join(err.split())) == (2, True)


def test_bad_input_is_one_line(tiny_export, pictures, tmp_path: Path, run_here) -> None:
    (tmp_path / "empty").mkdir()
    options = ("--old", tiny_export, "--new", tiny_export, "--images", pictures)
    for changes, expected, said in (
        (("--gallery", tmp_path / "empty"), 1, "not a gallery"),
        (("--gallery", tmp_path / "none"), 2, "no such file or folder"),
        (("--gallery", tmp_path / "empty", "--labels", "some"), 2, "folder or none"),
    ):
        code, _, err = run_here("migrate-check", *options, *changes)
        assert (code, said in " ".join(err.split())) == (expected, True), err

"""embed, evaluate and inspect as commands: what is printed, what is written, exit codes."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gsp_deploy.artifact import sidecar_path

SPEC = "glyphs:size=48,images_per_class=2,train_classes=2,test_classes=3"


@pytest.fixture
def gsp_deploy(run_here):
    """Return a function that runs the command line: exit code, stdout, stderr."""

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(arguments, *run_here(*arguments))

    return run


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photo graphs")
    draw = np.random.default_rng(0)
    for k in range(3):
        Image.fromarray(draw.integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(
            folder / f"ü{k}.png"
        )
    (folder / "broken.jpg").write_bytes(b"no image")
    return folder


def test_embed_writes_the_table_and_lists_what_it_skipped(
    gsp_deploy, tiny_checkpoint: Path, photographs: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out.npy"
    ran = gsp_deploy("embed", tiny_checkpoint, photographs, "-o", output, "--json")
    assert ran.returncode == 0, ran.stderr
    document = json.loads(ran.stdout)
    assert (document["document"], document["images"], document["embedding_dim"]) == ("embed", 3, 8)
    assert [Path(failure["file"]).name for failure in document["skipped"]] == ["broken.jpg"]
    assert np.load(output).shape == (3, 8)
    again = gsp_deploy("embed", tiny_checkpoint, photographs, "-o", output)
    assert again.returncode == 2
    assert "--force" in again.stderr


def test_embed_strict_fails_on_the_broken_image(
    gsp_deploy, tiny_checkpoint: Path, photographs: Path, tmp_path: Path
) -> None:
    ran = gsp_deploy("embed", tiny_checkpoint, photographs, "-o", tmp_path / "out.npz", "--strict")
    assert ran.returncode == 1
    assert "broken.jpg" in ran.stderr
    assert "Traceback" not in ran.stderr
    assert not (tmp_path / "out.npz").exists()


def test_explain_draws_a_panel_an_image(
    gsp_deploy, tiny_checkpoint: Path, photographs: Path, tmp_path: Path
) -> None:
    ran = gsp_deploy("explain", tiny_checkpoint, photographs, "-o", tmp_path / "maps", "--json")
    assert ran.returncode == 0, ran.stderr
    document = json.loads(ran.stdout)
    panels = [Path(image["file"]) for image in document["images"]]
    assert panels == [tmp_path / "maps" / f"ü{k}.png" for k in range(3)]
    assert all(Image.open(panel).width > 4 * 224 for panel in panels)
    assert "broken.jpg" in ran.stderr
    again = gsp_deploy("explain", tiny_checkpoint, photographs, "-o", tmp_path / "maps")
    assert again.returncode == 2
    assert "--force" in again.stderr


def test_evaluate_reports_the_data_sets_ranks(gsp_deploy, tiny_checkpoint: Path) -> None:
    ran = gsp_deploy("evaluate", tiny_checkpoint, "--data", SPEC, "--json")
    assert ran.returncode == 0, ran.stderr
    document = json.loads(ran.stdout)
    assert (document["images"], document["classes"]) == (6, 3)
    assert "recall_at_8" in document["models"]["tiny.safetensors"]


def test_evaluate_names_what_it_cannot_use(gsp_deploy, tiny_checkpoint: Path) -> None:
    unknown = gsp_deploy("evaluate", tiny_checkpoint, "--data", "nowhere:x")
    assert unknown.returncode == 2
    assert "glyphs" in unknown.stderr
    ranks = gsp_deploy("evaluate", tiny_checkpoint, "--data", SPEC, "--ranks", "one")
    assert ranks.returncode == 2
    assert "--ranks takes whole numbers, as in 1,8, got 'one'" in ranks.stderr


def test_inspect_tells_what_a_checkpoint_is(gsp_deploy, tiny_checkpoint: Path) -> None:
    plain = gsp_deploy("inspect", tiny_checkpoint)
    assert plain.returncode == 0
    assert "num_prototypes 4" in plain.stdout
    document = json.loads(gsp_deploy("inspect", tiny_checkpoint, "--json").stdout)
    assert document["kind"] == "checkpoint"


def test_report_writes_a_page_and_its_twin(
    gsp_deploy, tiny_checkpoint: Path, photographs: Path, tmp_path: Path
) -> None:
    model = tmp_path / "model.onnx"
    assert gsp_deploy("export", tiny_checkpoint, "-o", model).returncode == 0
    page, twin = tmp_path / "page.html", tmp_path / "page.md"
    pictures = ("--reference", tiny_checkpoint, "--model", model, "--images", photographs)
    ran = gsp_deploy("report", tmp_path, "-o", page, "--markdown", twin, *pictures, "--json")
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout)["artifacts"] == 1
    assert "model.onnx" in page.read_text()
    assert "model.onnx" in twin.read_text()
    assert "broken.jpg" in ran.stderr
    assert gsp_deploy("report", tmp_path, "-o", page).returncode == 2
    ran = gsp_deploy("report", tmp_path, "-o", page, "--force", "--model", model)
    assert ran.returncode == 2
    assert "--reference, --model and --images" in ran.stderr


def test_report_tells_of_the_model_in_its_pictures_wherever_it_lies(
    gsp_deploy, tiny_checkpoint: Path, photographs: Path, tmp_path: Path
) -> None:
    model, results = tmp_path / "model.onnx", tmp_path / "results"
    assert gsp_deploy("export", tiny_checkpoint, "-o", model).returncode == 0
    results.mkdir()
    assert (
        gsp_deploy("bench", model, "--repeats", "2", "--save", results / "b.json").returncode == 0
    )
    pictures = ("--reference", tiny_checkpoint, "--model", model, "--images", photographs)
    ran = gsp_deploy("report", results, "-o", tmp_path / "page.html", *pictures, "--json")
    assert json.loads(ran.stdout)["artifacts"] == 1, ran.stderr
    snapshot, blobs = tmp_path / "snapshot", tmp_path / "blobs"
    snapshot.mkdir()
    blobs.mkdir()
    for number, file in enumerate((model, sidecar_path(model))):
        (snapshot / file.name).symlink_to(file.rename(blobs / str(number)))
    linked = (*pictures[:3], snapshot / model.name, *pictures[4:])
    ran = gsp_deploy("report", results, "-o", tmp_path / "linked.html", *linked, "--json")
    assert json.loads(ran.stdout)["artifacts"] == 1, ran.stderr

"""`gsp-deploy adopt`, and every other command on the adopted file."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from foreign_onnx import DIM, SIDE, foreign_onnx, own_answers
from PIL import Image

from gsp_deploy.artifact import read_sidecar
from gsp_deploy.engine.api import installed_flavours
from gsp_deploy.images.normalisation import normalise
from gsp_deploy.images.preprocessing import load_image

PREPARED = ("--size", SIDE, "--resize", "crop", "--crop-ratio", 0.875)
MEAN_STD = ("--mean", 0.5, 0.4, 0.3, "--std", 0.2, 0.25, 0.3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A foreign network and images of two classes."""
    folder = tmp_path_factory.mktemp("adopt")
    foreign_onnx(folder / "any.onnx")
    draw = np.random.default_rng(0)
    for label in ("cats", "dogs"):
        (folder / "images" / label).mkdir(parents=True)
        for index in range(4):
            small = draw.integers(0, 256, (5, 6, 3), dtype=np.uint8)
            picture = Image.fromarray(small).resize((30, 25), Image.Resampling.BICUBIC)
            picture.save(folder / "images" / label / f"{index}.png")
    return folder


@pytest.fixture
def model(folder: Path, run_here) -> Path:
    """The adopted network; made once."""
    path = folder / "model.onnx"
    if not path.exists():
        code, out, err = run_here(
            "adopt", folder / "any.onnx", "-o", path, *PREPARED, *MEAN_STD, "--normalize", "--json"
        )
        assert code == 0, err
        assert json.loads(out)["document"] == "adopt"
    return path


@pytest.fixture
def done(run_here):
    """Return a function that runs a command, which must succeed, and returns its stdout."""

    def run(*arguments: object) -> str:
        code, out, err = run_here(*arguments)
        assert code == 0, err
        return out

    return run


def test_embed_gives_the_files_own_answers(folder: Path, model: Path, done, tmp_path) -> None:
    done("embed", model, folder / "images", "-o", tmp_path / "e.npy")
    found = np.load(tmp_path / "e.npy")
    spec = read_sidecar(model).preprocessing
    assert (spec.height, spec.resize, spec.crop_ratio) == (SIDE, "crop", 0.875)
    assert spec.mean == (0.5, 0.4, 0.3)
    files = sorted((folder / "images").rglob("*.png"))
    images = normalise(np.stack([load_image(file, spec) for file in files]), spec)
    expected = own_answers(folder / "any.onnx", images)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_inspect_and_report_name_it(folder: Path, model: Path, done, tmp_path: Path) -> None:
    facts = json.loads(done("inspect", model, "--json"))
    assert facts["kind"] == "adopted model"
    assert facts["facts"]["model"]["head"] == {
        "kind": "adopted", "embedding_dim": DIM, "normalize": True,
    }  # fmt: skip
    images = ("--images", folder / "images")
    (tmp_path / "check.json").write_text(done("check", model, model, *images, "--json"))
    page = tmp_path / "r.html"
    done("report", tmp_path / "check.json", f"{model}.json", "-o", page)
    assert "no GSP head (it is adopted from another ONNX file)" in page.read_text()


@pytest.mark.parametrize("precision", ["fp16", "bf16", "int8"])
def test_it_is_converted_checked_and_built(
    folder: Path, model: Path, done, run_here, tmp_path: Path, precision: str
) -> None:
    images, low = folder / "images", tmp_path / "low.onnx"
    calibrate = ("--calibrate", images) if precision == "int8" else ()
    made = done(
        "export", "--from", model, "--precision", precision, *calibrate, "-o", low, "--json"
    )
    manifest = json.loads(made)["manifest"]
    assert (manifest["precision"], manifest["source_sha256"]) == (
        precision,
        read_sidecar(model).source_sha256,
    )
    assert (manifest["quantisation"] is not None) == (precision == "int8")
    report = json.loads(done("check", model, low, "--images", images, "--json"))
    assert report["document"] == "check"
    code, _, err = run_here(
        "export", "--from", low, "--precision", "fp16", "-o", tmp_path / "x.onnx"
    )
    assert (code, "adopt the network in float32" in err) == (2, True)


def test_check_compares_layers_too(folder: Path, model: Path, done, tmp_path: Path) -> None:
    done("export", "--from", model, "--precision", "fp16", "-o", tmp_path / "low.onnx")
    images = ("--images", folder / "images")
    found = done("check", model, tmp_path / "low.onnx", *images, "--layers", "--json")
    assert json.loads(found)["document"] == "check-layers"


def test_search_evaluate_and_bench(folder: Path, model: Path, done, tmp_path: Path) -> None:
    images = folder / "images"
    done("index", model, images, "-o", tmp_path / "gallery")
    query = images / "cats/1.png"
    hits = done("search", "--index", tmp_path / "gallery", "--model", model, query, "--json")
    assert Path(json.loads(hits)["results"][0]["hits"][0]["file"]).name == "1.png"
    metrics = json.loads(done("evaluate", model, "--data", f"folder:{images}", "--json"))
    assert metrics["document"] == "evaluate"
    bench = done("bench", model, "--repeats", 2, "--batch", 1, "--json")
    assert "no GSP head" in bench


def test_it_is_packaged_for_both_and_verified(
    folder: Path, model: Path, done, tmp_path: Path
) -> None:
    images = ("--images", folder / "images")
    done("package", model, "-o", tmp_path / "bundle", *images)
    done("verify", tmp_path / "bundle")
    done("package", model, "-o", tmp_path / "triton", "--format", "triton", *images)
    assert (tmp_path / "triton/model/config.pbtxt").is_file()


def test_it_is_tuned(folder: Path, done, tmp_path: Path) -> None:
    source = foreign_onnx(tmp_path / "open.onnx", size=None)
    done("adopt", source, "-o", tmp_path / "open-model.onnx", "--size", SIDE)
    images = folder / "images"
    tuned = done(
        "tune", tmp_path / "open-model.onnx", "--data", f"folder:{images}", "--calibrate", images,
        "--folder", tmp_path / "study", "--precision", "fp32,fp16,int8", "--size", "16,24",
        "--batch", 1, "--repeats", 2, "--threads", 1, "--max-drop", 99, "--runtime", "onnxruntime",
        "-o", tmp_path / "chosen.onnx", "--json",
    )  # fmt: skip
    document = json.loads(tuned)
    assert document["failures"] == {}
    assert len(document["points"]) == 6
    chosen = read_sidecar(tmp_path / "chosen.onnx")
    assert chosen.model.head.KIND == "adopted"


@pytest.mark.skipif(
    "tensorrt-rtx" not in installed_flavours(), reason="needs the package tensorrt-rtx"
)
def test_an_engine_is_built_of_it(model: Path, done, tmp_path: Path) -> None:
    done("build", model, "-o", tmp_path / "m.engine", "--batch", "1:2:4")
    facts = json.loads(done("inspect", tmp_path / "m.engine", "--json"))["facts"]
    assert facts["export"]["model"]["head"]["kind"] == "adopted"


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("explain {model} {images}/cats/0.png -o {out}/maps", 2),
        ("embed {model} {images} -o {out}/e.npz --also residual", 2),
        ("export --from {model} --pooling plugin -o {out}/p.onnx", 2),
        ("export {model} -o {out}/p.onnx", 1),
    ],
)
def test_what_only_a_gsp_head_has_is_one_line(
    folder: Path, model: Path, run_here, tmp_path: Path, command: str, code: int
) -> None:
    places = {"model": model, "images": folder / "images", "out": tmp_path}
    found, out, err = run_here(*command.format(**places).split())
    assert (found, out) == (code, "")
    (line,) = [line for line in err.splitlines() if line.startswith("error: ")]
    assert "no GSP head" in line or "got an exported model" in line
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("{any}", "-o", "{any}"), "is also an input"),
        (("{any}", "-o", "{out}/m.engine"), "expected an output ending in .onnx"),
        (("{any}", "-o", "{out}/m.onnx", "--size", "big"), "--size takes one side"),
        (("{any}", "-o", "{out}/m.onnx", "--size", "1x2x3"), "--size takes one side"),
        (("{any}", "-o", "{out}/m.onnx", "--size", "32"), "takes images of 16x16"),
        (("{any}", "-o", "{out}/m.onnx", "--std", "0", "0", "0"), "std must be above 0"),
        (("{any}", "-o", "{out}/m.onnx", "--like", "resnet50"), "--like takes timm/NAME"),
        (("{any}", "-o", "{out}/m.onnx", "--like", "timm/resnet5"), "near it: resnet"),
        (("{any}", "-o", "{out}/m.onnx", "--output", "pooled"), "has no output 'pooled'"),
        (("{open}", "-o", "{out}/m.onnx"), "pass --size"),
        (("{pixels}", "-o", "{out}/m.onnx", *map(str, MEAN_STD[:4])), "leave --mean and --std out"),
    ],
)
def test_bad_options_are_one_line(
    folder: Path, run_here, tmp_path: Path, arguments: tuple[str, ...], words: str
) -> None:
    places = {
        "any": folder / "any.onnx",
        "open": foreign_onnx(folder / "open.onnx", size=None),
        "pixels": foreign_onnx(folder / "pixels.onnx", dtype="uint8"),
        "out": tmp_path,
    }
    code, out, err = run_here("adopt", *(word.format(**places) for word in arguments))
    assert (code, out) == (2, "")
    assert words in err
    assert not list(tmp_path.iterdir())


def test_like_takes_timms_settings_and_options_go_before_them(
    folder: Path, done, tmp_path: Path
) -> None:
    like = ("--like", "timm/vit_base_patch16_siglip_224")
    done("adopt", folder / "any.onnx", "-o", tmp_path / "m.onnx", *like, "--crop-ratio", 0.8)
    spec = read_sidecar(tmp_path / "m.onnx").preprocessing
    assert (spec.height, spec.width) == (SIDE, SIDE)  # the file's own
    assert (spec.mean, spec.std) == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    assert (spec.interpolation, spec.pipeline, spec.crop_ratio) == ("bicubic", "timm", 0.8)


def test_without_timm_like_says_what_to_install(
    folder: Path, run_here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "gsp_deploy.export.adoption.likeness", raising=False)
    monkeypatch.setitem(sys.modules, "timm", None)
    arguments = ("-o", tmp_path / "m.onnx", "--like", "timm/resnet50")
    code, out, err = run_here("adopt", folder / "any.onnx", *arguments)
    assert (code, out) == (4, "")
    assert "pip install" in err
    assert "'timm'" in err


def test_force_replaces_only_what_gsp_deploy_made(folder: Path, run_here, tmp_path: Path) -> None:
    target = tmp_path / "m.onnx"
    adopt = ("adopt", folder / "any.onnx", "-o", target)
    assert run_here(*adopt)[0] == 0
    code, _, err = run_here(*adopt)
    assert (code, "pass --force to replace it" in err) == (2, True)
    assert run_here(*adopt, "--force")[0] == 0
    foreign_onnx(tmp_path / "other.onnx")
    code, _, err = run_here(*adopt[:3], tmp_path / "other.onnx", "--force")
    assert (code, "gsp-deploy did not make it" in err) == (2, True)

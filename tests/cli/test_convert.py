"""`gsp-deploy convert`: what it writes is the model that `export` makes of the state dict."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from gsp_deploy import load_checkpoint
from gsp_deploy.checkpoint import read_checkpoint
from gsp_deploy.config import PreprocessingSpec

SETTINGS = ("--backbone", "resnet10t", "--image-size", 64)


@pytest.fixture(scope="module")
def authors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network and a head under the names that the authors' training gives them."""
    torch.manual_seed(0)
    network = timm.create_model("resnet10t", num_classes=0, global_pool="")
    head = {
        "prototypes": torch.randn(8, 16),
        "embed.weight": torch.randn(16, network.num_features),
        "embed.bias": torch.randn(16),
        "is_proto_inited": torch.tensor(True),
    }
    tensors = {f"module.backbone.{name}": t for name, t in network.state_dict().items()}
    tensors |= {f"module.pool.{name}": t for name, t in head.items()}
    path = tmp_path_factory.mktemp("authors") / "trained.pt"
    torch.save(tensors, path)
    return path


def test_the_checkpoint_embeds_as_the_state_dict_does(run_here, authors, tmp_path) -> None:
    output = tmp_path / "model.safetensors"
    code, out, err = run_here(
        "convert", authors, *SETTINGS, "--entropy-weight", 5, "--pooling-mode", "gap", "-o", output
    )
    assert (code, "GSP (gap), mu 0.3, gamma 5, 8 prototypes" in out) == (0, True), err
    images = torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    direct = load_checkpoint(
        authors,
        backbone="resnet10t",
        preprocessing=PreprocessingSpec(64, 64),
        entropy_weight=5.0,
        pooling="gap",
    )
    with torch.no_grad():
        expected, found = direct(images), load_checkpoint(output)(images)
    assert torch.equal(found.embedding, expected.embedding)


def test_what_was_converted_is_exported_and_checked(run_here, authors, tmp_path) -> None:
    checkpoint, exported = tmp_path / "model.safetensors", tmp_path / "model.onnx"
    assert run_here("convert", authors, *SETTINGS, "-o", checkpoint)[0] == 0
    assert run_here("export", checkpoint, "-o", exported)[0] == 0
    images = tmp_path / "images"
    images.mkdir()
    for number in range(4):
        pixels = np.random.default_rng(number).integers(0, 256, (64, 64, 3), np.uint8)
        Image.fromarray(pixels).save(images / f"{number}.png")
    code, _, err = run_here("check", checkpoint, exported, "--images", images)
    assert code == 0, err


def test_preprocessing_and_provenance_are_in_the_checkpoint(run_here, authors, tmp_path) -> None:
    output = tmp_path / "model.safetensors"
    prepared = ("--mean", 0.5, 0.5, 0.5, "--std", 0.25, 0.25, 0.25, "--crop-ratio", 0.875,
                "--interpolation", "bicubic", "--resize", "stretch")  # fmt: skip
    described = ("--license", "MIT", "--dataset", "cub")
    assert run_here("convert", authors, *SETTINGS, *prepared, *described, "-o", output)[0] == 0
    metadata = read_checkpoint(output).metadata
    assert metadata is not None
    spec = PreprocessingSpec(64, 64, (0.5,) * 3, (0.25,) * 3, "bicubic", "stretch", 0.875)
    assert metadata.model.preprocessing == spec
    assert (metadata.provenance.license, metadata.provenance.dataset) == ("MIT", "cub")
    assert "converted from trained.pt, SHA-256 " in str(metadata.provenance.notes)


def test_the_document_holds_the_model(run_here, authors, tmp_path) -> None:
    output = tmp_path / "model.safetensors"
    code, out, _ = run_here("convert", authors, *SETTINGS, "-o", output, "--json")
    document = json.loads(out)
    assert (code, document["document"], document["checkpoint"]) == (0, "convert", str(output))
    assert document["model"] == json.loads(json.dumps(load_checkpoint(output).config.to_dict()))


@pytest.mark.parametrize(
    ("options", "output", "said"),
    [
        ((), "m.safetensors", "name the backbone's timm architecture (--backbone of convert"),
        (SETTINGS, "m.pt", "expected an output ending in .safetensors"),
        (("--backbone", "resnet18"), "m.safetensors", "is it another architecture?"),
        ((*SETTINGS, "--crop-ratio", 2), "m.safetensors", "crop_ratio must be above 0"),
        ((*SETTINGS, "--mean", 0.5), "m.safetensors", "mean"),
    ],
)
def test_a_mismatch_is_reported_and_nothing_is_written(
    run_here, authors, tmp_path, options, output, said
) -> None:
    code, _, err = run_here("convert", authors, *options, "-o", tmp_path / output)
    assert code in (1, 2)
    assert said in err
    assert list(tmp_path.iterdir()) == []


def test_a_gsp_deploy_checkpoint_is_not_converted(run_here, tiny_checkpoint, tmp_path) -> None:
    code, _, err = run_here("convert", tiny_checkpoint, "-o", tmp_path / "again.safetensors")
    assert (code, "already a gsp-deploy checkpoint" in err) == (2, True)


def test_an_output_is_replaced_only_with_force(run_here, authors, tmp_path) -> None:
    output = tmp_path / "model.safetensors"
    output.write_bytes(b"mine")
    code, _, err = run_here("convert", authors, *SETTINGS, "-o", output, "--force")
    assert (code, "--force" in err, output.read_bytes()) == (2, False, b"mine")
    output.unlink()
    assert run_here("convert", authors, *SETTINGS, "-o", output)[0] == 0
    code, _, err = run_here("convert", authors, *SETTINGS, "-o", output)
    assert (code, "--force" in err) == (2, True)
    assert run_here("convert", authors, *SETTINGS, "-o", output, "--force")[0] == 0
    assert read_checkpoint(output).metadata is not None


@pytest.fixture(scope="module")
def transformer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A vision transformer for 96 px, and a head, as plain tensors."""
    torch.manual_seed(0)
    network = timm.create_model("test_vit", num_classes=0, global_pool="", img_size=96)
    tensors = {f"backbone.{name}": t for name, t in network.state_dict().items()}
    tensors |= {"pool.prototypes": torch.randn(4, 8), "pool.embed.weight": torch.randn(8, 64)}
    path = tmp_path_factory.mktemp("transformer") / "trained.pt"
    torch.save(tensors, path)
    return path


TRANSFORMER = ("--backbone", "test_vit", "--image-size", 96)


@pytest.mark.parametrize("command", ["convert", "export"])
def test_a_transformer_is_built_as_it_was_trained(command, run_here, transformer, tmp_path) -> None:
    output = tmp_path / ("m.safetensors" if command == "convert" else "m.onnx")
    asked = (command, transformer, *TRANSFORMER, "--backbone-option", "img_size=96", "-o", output)
    code, _, err = run_here(*asked)
    assert code == 0, err
    assert output.exists()


@pytest.mark.parametrize("command", ["convert", "export"])
@pytest.mark.parametrize(
    ("options", "line"),
    [
        (TRANSFORMER, "size mismatch for pos_embed"),
        ((*TRANSFORMER[:2], "--image-size", 90, "--backbone-option", "img_size=96"),
         "sides that are multiples of 16; yours are 90 x 90"),
        ((*TRANSFORMER, "--backbone-option", "image=96"), "unexpected keyword argument 'image'"),
        ((*TRANSFORMER, "--backbone-option", "img_size"), "expected name=value, got 'img_size'"),
        (("--backbone-option", "img_size=96"), "expected the backbone's timm architecture"),
    ],
)  # fmt: skip
def test_what_does_not_fit_a_transformer_is_one_line(
    command, options, line, run_here, transformer, tmp_path
) -> None:
    output = tmp_path / ("m.safetensors" if command == "convert" else "m.onnx")
    code, out, err = run_here(command, transformer, *options, "-o", output)
    assert code in (1, 2)
    assert (line in " ".join(err.split()), "Traceback" in err, out) == (True, False, "")
    assert not output.exists()

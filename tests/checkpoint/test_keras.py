"""The authors' `.h5`: their ResNet-50 and GSP head give what their TensorFlow code gave."""

from __future__ import annotations

import json
import subprocess
import sys
import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from gsp_deploy.checkpoint import load_checkpoint
from gsp_deploy.errors import CheckpointError

DIM, PROTOTYPES = 16, 8
STAGES = ((64, 3), (128, 4), (256, 6), (512, 3))
HEAD = {
    "binary_costs": "l2",
    "normalization": "l2",
    "transport_ratio": 0.3,
    "entropy_regularizer_weight": 5.0,
    "optimization_steps": 100,
    "augment_max_pool": True,
    "use_gemp": False,
}


def shapes() -> dict[str, tuple[int, ...]]:
    """Names and shapes below `model_weights`, as Keras writes them."""
    found: dict[str, tuple[int, ...]] = {}

    def convolution(name: str, side: int, inside: int, outside: int) -> None:
        found[f"resnet50/{name}_conv/kernel:0"] = (side, side, inside, outside)
        found[f"resnet50/{name}_conv/bias:0"] = (outside,)
        for part in ("gamma", "beta", "moving_mean", "moving_variance"):
            found[f"resnet50/{name}_bn/{part}:0"] = (outside,)

    convolution("conv1", 7, 3, 64)
    inside = 64
    for stage, (width, blocks) in enumerate(STAGES, 2):
        for block in range(1, blocks + 1):
            name = f"conv{stage}_block{block}"
            if block == 1:
                convolution(f"{name}_0", 1, inside, 4 * width)
            convolution(f"{name}_1", 1, inside, width)
            convolution(f"{name}_2", 3, width, width)
            convolution(f"{name}_3", 1, width, 4 * width)
            inside = 4 * width
    head = "EmbeddingHead"
    found[f"{head}/feature_transform/kernel:0"] = (1, 1, 2048, DIM)
    found[f"{head}/partial_transport/partial_transport/target_support:0"] = (PROTOTYPES, DIM)
    return found


def filled(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The weights that were recorded: random numbers whose seed is the array's name."""
    draw = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape)
    numbers, part = draw.astype(np.float32), name.rpartition("/")[2]
    if part == "kernel:0":
        return numbers * np.float32(np.sqrt(2 / np.prod(shape[:-1])))
    if part == "gamma:0":
        return 1 + numbers / 10
    if part == "moving_variance:0":
        return 1 + abs(numbers) / 10
    return numbers / 10


def save(path: Path, names: dict[str, tuple[int, ...]], **head: object) -> Path:
    layers = [
        {"class_name": "InputLayer", "config": {"name": "Input"}},
        {"class_name": "Functional", "config": {"name": "resnet50"}},
        {"class_name": "Custom>GeneralizedSumPooling", "config": {**HEAD, **head}},
    ]
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = json.dumps({"config": {"layers": layers}})
        weights = file.create_group("model_weights")
        for name, shape in names.items():
            weights[name] = filled(name, shape)
    return path


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("keras") / "model.h5", shapes())


def test_features_and_embeddings_are_theirs(theirs: Path, golden: Path) -> None:
    recorded = np.load(golden / "keras_resnet50.npz")
    model = load_checkpoint(theirs, normalize=False)
    # Their input is BGR; the model takes RGB.
    images = torch.from_numpy(recorded["images"][..., ::-1].transpose(0, 3, 1, 2).copy())
    with torch.no_grad():
        features = model.features(images)
        embedding = model(images).embedding.numpy()
    found = features.permute(0, 2, 3, 1).reshape(2, -1, 2048)[:, :, ::16].numpy()
    scale = np.abs(recorded["features"]).max()
    np.testing.assert_allclose(found / scale, recorded["features"] / scale, atol=1e-5)
    scale = np.abs(recorded["embedding"]).max()
    np.testing.assert_allclose(embedding / scale, recorded["embedding"] / scale, atol=2e-5)
    head = model.config.head
    assert (head.transport_ratio, head.entropy_weight, head.iterations) == (0.3, 5.0, 100)
    assert (head.max_residual, head.pooling, head.solver) == (True, "gap", "fixed-point")
    assert model.config.preprocessing.std == (1 / 255,) * 3


@pytest.mark.slow
def test_convert_writes_a_checkpoint_of_it(theirs: Path, tmp_path: Path) -> None:
    made = tmp_path / "model.safetensors"
    command = [sys.executable, "-m", "gsp_deploy_cli.main", "convert", theirs, "-o", made]
    command += ["--image-size", "64"]
    done = subprocess.run(
        [*map(str, command), "--image-size", "64"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert load_checkpoint(made).config.backbone == "keras_resnet50"


@pytest.mark.parametrize(
    ("names", "head", "line"),
    [
        ({}, {}, "expected Keras's ResNet-50"),
        ({"resnet50/conv1_conv/kernel:0": (7, 7, 3, 64)}, {}, "expected one array feature_trans"),
        ({"resnet50/conv1_conv/kernel:0": (7, 7, 3, 64)}, {"binary_costs": "conv3"}, "'conv3'"),
    ],
)
def test_another_network_is_refused(names, head, line: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=line):
        load_checkpoint(save(tmp_path / "m.h5", names, **head))


def test_a_backbone_with_a_gap_is_refused(tmp_path: Path) -> None:
    names = shapes()
    del names["resnet50/conv4_block2_2_bn/gamma:0"]
    with pytest.raises(CheckpointError, match=r"lacks layer3\.1\.bn2\.weight"):
        load_checkpoint(save(tmp_path / "m.h5", names))


def test_only_arrays_inside_the_file_are_read(tmp_path: Path) -> None:
    path = save(tmp_path / "m.h5", {})
    with h5py.File(path, "r+") as file:
        file["model_weights/elsewhere"] = h5py.ExternalLink("/etc/passwd", "/")
    with pytest.raises(CheckpointError, match="elsewhere is a link"):
        load_checkpoint(path)
    with h5py.File(path, "r+") as file:
        del file["model_weights/elsewhere"]
        file["model_weights"].create_dataset("bomb", (1 << 28,), "f4", compression="gzip")
    with pytest.raises(CheckpointError, match="bomb is not a plain array"):
        load_checkpoint(path)


def test_a_file_that_is_not_hdf5_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "m.h5"
    path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    with pytest.raises(CheckpointError, match="not a Keras model that h5py can read") as caught:
        load_checkpoint(path)
    assert "\n" not in str(caught.value)

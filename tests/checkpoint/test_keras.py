"""The authors' `.h5`: their backbones and GSP head give what their TensorFlow code gave."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from gsp_deploy.checkpoint import load_checkpoint
from gsp_deploy.errors import CheckpointError
from gsp_deploy.model import EmbeddingModel

from .keras_files import BNInceptionFile, Shapes, head_shapes, save

STAGES = ((64, 3), (128, 4), (256, 6), (512, 3))
RESNET50 = {"name": "resnet50"}
VGG16 = {
    "name": "vgg16",
    "layers": [{"class_name": "MaxPooling2D", "config": {"name": "block5_pool"}}],
    "output_layers": [["block5_pool", 0, 0]],
}


def shapes() -> Shapes:
    """Names and shapes below `model_weights`, as Keras writes them."""
    found = head_shapes(2048)

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
    return found


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("keras") / "model.h5", shapes(), RESNET50)


@pytest.fixture(scope="module")
def inception(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return BNInceptionFile().save(tmp_path_factory.mktemp("keras") / "inception.h5")


def check_recorded(model: EmbeddingModel, recorded: Mapping[str, np.ndarray]) -> None:
    """Compare every 16th channel of the features, and the embeddings, with those recorded."""
    # Their input is BGR; the model takes RGB.
    images = torch.from_numpy(recorded["images"][..., ::-1].transpose(0, 3, 1, 2).copy())
    with torch.no_grad():
        features = model.features(images)
        embedding = model(images).embedding.numpy()
    found = features.permute(0, 2, 3, 1).flatten(1, 2)[:, :, ::16].numpy()
    scale = np.abs(recorded["features"]).max()
    np.testing.assert_allclose(found / scale, recorded["features"] / scale, atol=1e-5)
    scale = np.abs(recorded["embedding"]).max()
    np.testing.assert_allclose(embedding / scale, recorded["embedding"] / scale, atol=2e-5)


def test_features_and_embeddings_are_theirs(theirs: Path, golden: Path) -> None:
    model = load_checkpoint(theirs, normalize=False)
    check_recorded(model, np.load(golden / "keras_resnet50.npz"))
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
        ({"resnet50/conv1_conv/kernel:0": (7, 7, 3, 64)}, {}, "expected one array feature_trans"),
        ({"resnet50/conv1_conv/kernel:0": (7, 7, 3, 64)}, {"binary_costs": "conv3"}, "'conv3'"),
    ],
)
def test_another_network_is_refused(names, head, line: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=line):
        load_checkpoint(save(tmp_path / "m.h5", names, RESNET50, **head))


def test_bn_inception_is_found_by_its_graph(inception: Path, golden: Path) -> None:
    model = load_checkpoint(inception, normalize=False)
    check_recorded(model, np.load(golden / "keras_bn_inception.npz"))
    assert model.config.backbone == "bn_inception"


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        (
            {"l2": {"kernel_size": [5, 5]}},
            r"at l2 expected size and stride \(7, 2\), found \(5, 2\)",
        ),
        ({"l2": {"padding": "same"}}, r"expected ZeroPadding2D of \(3, 3, 3, 3\) before it"),
        ({"l4": {"activation": "elu"}}, "at l4 expected ReLU, found Activation"),
        ({"l7": {"name": "other"}}, "at l8 expected one source, found 0"),
        ({"l10": {"dilation_rate": [2, 2]}}, "expected dilation_rate 1"),
        ({"l3": {"name": "l3", "epsilon": None}}, "is not the description of a Keras model"),
    ],
)
def test_another_graph_is_refused(changes: dict[str, dict], line: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=line):
        load_checkpoint(BNInceptionFile(**changes).save(tmp_path / "m.h5"))


def test_branches_in_another_order_are_refused(tmp_path: Path) -> None:
    made = BNInceptionFile()
    (inbound,) = made.layers[-1]["inbound_nodes"]
    inbound[0], inbound[1] = inbound[1], inbound[0]
    with pytest.raises(CheckpointError, match="expected size and stride"):
        load_checkpoint(made.save(tmp_path / "m.h5"))


def test_a_layer_without_weights_is_named(tmp_path: Path) -> None:
    made = BNInceptionFile()
    del made.shapes["BN-Inception/l3/gamma:0"]
    with pytest.raises(CheckpointError, match=r"l3 \(BatchNormalization\) has no array gamma"):
        load_checkpoint(made.save(tmp_path / "m.h5"))


def test_the_graph_of_keras_3_is_read_too(tmp_path: Path) -> None:
    made = BNInceptionFile()
    for layer in made.layers:
        sources = (
            [source[0] for (inbound,) in [layer["inbound_nodes"]] for source in inbound]
            if (layer["inbound_nodes"])
            else []
        )
        tensors = [
            {"class_name": "__keras_tensor__", "config": {"keras_history": [source, 0, 0]}}
            for source in sources
        ]
        layer["inbound_nodes"] = [{"args": [tensors], "kwargs": {}}]
    made.config["output_layers"] = made.config["output_layers"][0]
    assert load_checkpoint(made.save(tmp_path / "m.h5")).config.backbone == "bn_inception"


def test_prototypes_that_were_never_set_are_refused(inception: Path, tmp_path: Path) -> None:
    path = tmp_path / "m.h5"
    path.write_bytes(inception.read_bytes())
    with h5py.File(path, "r+") as file:
        file["model_weights/EmbeddingHead/Variable:0"] = True
    load_checkpoint(path)
    with h5py.File(path, "r+") as file:
        file["model_weights/EmbeddingHead/Variable:0"][()] = False
    with pytest.raises(CheckpointError, match="memory of 1024 embeddings was not full"):
        load_checkpoint(path)


def test_another_backbone_is_refused_by_what_is_read(tmp_path: Path) -> None:
    line = (
        "vgg16 is neither Keras's ResNet-50 nor a BN-Inception .* expected Concatenate, found Max"
    )
    with pytest.raises(CheckpointError, match=line):
        load_checkpoint(save(tmp_path / "m.h5", {}, VGG16))


def test_a_backbone_with_a_gap_is_refused(tmp_path: Path) -> None:
    names = shapes()
    del names["resnet50/conv4_block2_2_bn/gamma:0"]
    with pytest.raises(CheckpointError, match=r"lacks layer3\.1\.bn2\.weight"):
        load_checkpoint(save(tmp_path / "m.h5", names, RESNET50))


def test_only_arrays_inside_the_file_are_read(tmp_path: Path) -> None:
    path = save(tmp_path / "m.h5", {}, RESNET50)
    with h5py.File(path, "r+") as file:
        file["model_weights/elsewhere"] = h5py.ExternalLink("/etc/passwd", "/")
    with pytest.raises(CheckpointError, match="elsewhere is a link"):
        load_checkpoint(path)
    with h5py.File(path, "r+") as file:
        del file["model_weights/elsewhere"]
        file["model_weights"].create_dataset("bomb", (1 << 28,), "f4", compression="gzip")
    with pytest.raises(CheckpointError, match="bomb is not a plain array"):
        load_checkpoint(path)


def test_a_small_file_cannot_ask_for_much_memory_or_time(tmp_path: Path) -> None:
    path = save(tmp_path / "m.h5", {}, RESNET50)
    with h5py.File(path, "r+") as file:
        file["model_weights"].create_dataset("fill", (1 << 28,), "f4")
    with pytest.raises(CheckpointError, match="fill is not a plain array"):
        load_checkpoint(path)
    with h5py.File(path, "r+") as file:
        del file["model_weights/fill"]
        group = file["model_weights"]
        for _ in range(30):  # a billion ways to the last one
            group["one"] = group["two"] = group = group.create_group("first")
    with pytest.raises(CheckpointError, match="an object has two names, and one is first/"):
        load_checkpoint(path)


def test_arrays_that_share_their_bytes_are_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "m.h5", {}, RESNET50)
    with h5py.File(path, "r+") as file:
        places = [
            file.create_dataset(f"model_weights/{name}", data=np.ones(50_000, "f4")).id.get_offset()
            for name in ("a", "b")
        ]
    content = path.read_bytes()
    first, second, end = (n.to_bytes(8, "little") for n in (*places, len(content)))
    assert content.count(second) == content.count(end) == 1
    # Without the second array's bytes, the file ends where they began.
    path.write_bytes(content[: places[1]].replace(second, first).replace(end, second))
    with pytest.raises(CheckpointError, match="its arrays have more bytes than the file"):
        load_checkpoint(path)


def test_a_file_that_is_not_hdf5_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "m.h5"
    path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    with pytest.raises(CheckpointError, match="not a Keras model that h5py can read") as caught:
        load_checkpoint(path)
    assert "\n" not in str(caught.value)

"""Adopt small networks of every form, and compare the result with the file's own answers."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import numpy as np
import onnx
import pytest
from foreign_onnx import CHANNELS, DIM, MEAN, SIDE, STD, foreign_onnx, own_answers

from gsp_deploy import PreprocessingSpec, open_session
from gsp_deploy.artifact.identity import identity
from gsp_deploy.config import AdoptedHead
from gsp_deploy.errors import GspDeployError, ModelFileError, UsageError
from gsp_deploy.export import adopt_onnx
from gsp_deploy.images.normalisation import normalise
from gsp_deploy.inspection import inspect_file

SPEC = PreprocessingSpec(SIDE, SIDE, MEAN, STD)
PIXELS = np.random.default_rng(1).integers(0, 256, (4, SIDE, SIDE, 3), dtype=np.uint8)


def as_taken(pixels: np.ndarray, dtype: str, channels_last: bool) -> np.ndarray:
    """Return pixels in the type and layout of a foreign input."""
    images = pixels if dtype == "uint8" else normalise(pixels, SPEC).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(
        (images if channels_last else images.transpose(0, 3, 1, 2)).astype(dtype)
    )


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float16", "uint8"])
@pytest.mark.parametrize("normalize", [False, True])
def test_the_adopted_network_gives_the_files_own_answers(
    tmp_path: Path, dtype: str, channels_last: bool, normalize: bool
) -> None:
    source = foreign_onnx(tmp_path / "any.onnx", dtype=dtype, channels_last=channels_last)
    adopted = adopt_onnx(source, tmp_path / "model.onnx", SPEC, normalize=normalize)
    expected = own_answers(source, as_taken(PIXELS, dtype, channels_last)).astype(np.float64)
    if normalize:
        expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    with open_session(adopted.path) as session:
        found = session.embed(PIXELS)
        assert session.info.outputs == ("embedding",)
        assert session.info.input.name == "images"
    tolerance = 2e-2 if dtype == "float16" else 1e-5
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)
    manifest = adopted.manifest
    layout = (SIDE, SIDE, 3) if dtype == "uint8" else (3, SIDE, SIDE)
    assert manifest.inputs[0].shape == ("batch", *layout)
    assert manifest.inputs[0].dtype == dtype
    assert manifest.outputs[0].shape == ("batch", DIM)
    assert manifest.model.head == AdoptedHead(DIM, normalize)
    assert manifest.model.backbone == "any"
    assert manifest.includes_preprocessing == (dtype == "uint8")
    assert manifest.precision == ("fp16" if dtype == "float16" else "fp32")
    assert manifest.source_sha256 == identity(source)


@pytest.mark.parametrize("channels_last", [False, True])
def test_pixels_go_into_a_cast_first(tmp_path: Path, channels_last: bool) -> None:
    """TensorRT takes uint8 as an input, and then only in a Cast."""
    source = foreign_onnx(tmp_path / "any.onnx", dtype="uint8", channels_last=channels_last)
    graph = onnx.load(adopt_onnx(source, tmp_path / "model.onnx", SPEC).path).graph
    readers = [node.op_type for node in graph.node if "images" in node.input]
    assert readers == ["Cast"]


@pytest.mark.parametrize("opset", [7, 9, 11, 12, 13, 17, 18, 21, 25])
def test_every_opset_is_read_and_can_normalise(tmp_path: Path, opset: int) -> None:
    ir_version = 3 if opset < 9 else 10
    source = foreign_onnx(tmp_path / "any.onnx", opset=opset, ir_version=ir_version)
    adopted = adopt_onnx(source, tmp_path / "model.onnx", SPEC, normalize=True)
    assert adopted.manifest.opset == opset
    with open_session(adopted.path) as session:
        lengths = np.linalg.norm(session.embed(PIXELS), axis=1)
    np.testing.assert_allclose(lengths, 1, atol=1e-6)


def test_weights_listed_as_inputs_are_no_inputs(tmp_path: Path) -> None:
    source = foreign_onnx(tmp_path / "any.onnx", opset=8, ir_version=3)
    assert [value.name for value in onnx.load(source).graph.input] == [
        "pixel_values", "kernel", "matrix", "vector_shape",
    ]  # fmt: skip
    assert inspect_file(source).facts["inputs"] == ["pixel_values (N, 3, 16, 16)"]
    adopted = adopt_onnx(source, tmp_path / "model.onnx", SPEC)
    assert [value.name for value in onnx.load(adopted.path).graph.input] == ["images"]


def test_open_sizes_stay_open_where_they_are(tmp_path: Path) -> None:
    source = foreign_onnx(tmp_path / "any.onnx", batch=None, size=None)
    adopted = adopt_onnx(source, tmp_path / "model.onnx", SPEC)
    assert adopted.manifest.inputs[0].shape == ("batch", 3, "height", "width")
    larger = np.zeros((2, 24, 40, 3), np.uint8)
    with open_session(adopted.path) as session:
        assert session.embed(larger).shape == (2, DIM)


def test_a_batch_size_that_only_seems_open_is_fixed_with_a_line(tmp_path: Path) -> None:
    source = foreign_onnx(tmp_path / "any.onnx", works_with_batch=1)
    notes: list[str] = []
    adopted = adopt_onnx(source, tmp_path / "model.onnx", SPEC, announce=notes.append)
    assert adopted.manifest.inputs[0].shape == (1, 3, SIDE, SIDE)
    assert adopted.manifest.outputs[0].shape == (1, DIM)
    assert notes == ["its batch size is open in the file, but only 1 runs; it is fixed"]
    with open_session(adopted.path) as session:
        assert session.embed(PIXELS).shape == (4, DIM)


def test_a_network_that_mixes_the_images_of_a_batch_gets_one_at_a_time(tmp_path: Path) -> None:
    """It subtracts the batch's mean, as batch norm does in training mode."""
    model = onnx.load(foreign_onnx(tmp_path / "any.onnx"))
    (result,) = model.graph.output
    inner = f"{result.name}_inner"
    for node in model.graph.node:
        node.output[:] = [inner if name == result.name else name for name in node.output]
    model.graph.node.extend(
        [
            onnx.helper.make_node("ReduceMean", [inner], ["mean"], axes=[0], keepdims=1),
            onnx.helper.make_node("Mul", ["mean", "mean"], ["square"]),
            onnx.helper.make_node("Sub", [inner, "square"], [result.name]),
        ]
    )
    onnx.save(model, tmp_path / "mixing.onnx")
    notes: list[str] = []
    adopted = adopt_onnx(
        tmp_path / "mixing.onnx", tmp_path / "model.onnx", SPEC, announce=notes.append
    )
    assert adopted.manifest.inputs[0].shape[0] == 1
    (note,) = notes
    assert "changes with the other images of a batch" in note


def test_a_fixed_batch_size_stays(tmp_path: Path) -> None:
    source = foreign_onnx(tmp_path / "any.onnx", batch=2)
    adopted = adopt_onnx(source, tmp_path / "model.onnx", SPEC)
    assert adopted.manifest.inputs[0].shape[0] == 2
    with open_session(adopted.path) as session:
        found = session.embed(PIXELS[:3])
    expected = own_answers(source, as_taken(PIXELS[:2], "float32", False))
    np.testing.assert_allclose(found[:2], expected, rtol=1e-5, atol=1e-5)


def test_sizes_of_one_are_left_out(tmp_path: Path) -> None:
    source = foreign_onnx(tmp_path / "any.onnx", ending="1x1")
    notes: list[str] = []
    adopted = adopt_onnx(source, tmp_path / "model.onnx", SPEC, announce=notes.append)
    assert adopted.manifest.outputs[0].shape == ("batch", CHANNELS)
    assert notes == [
        f"output features is ({CHANNELS}, 1, 1) per image; its sizes of 1 are left out"
    ]


@pytest.mark.parametrize(("ending", "form"), [("map", "a feature map"), ("tokens", "tokens")])
def test_maps_and_tokens_are_refused(tmp_path: Path, ending: str, form: str) -> None:
    source = foreign_onnx(tmp_path / "any.onnx", ending=ending)
    with pytest.raises(ModelFileError, match=f"{form}.*pools nothing; choose an output"):
        adopt_onnx(source, tmp_path / "model.onnx", SPEC)
    assert not (tmp_path / "model.onnx").exists()


def test_several_outputs_are_listed_and_one_is_chosen(tmp_path: Path) -> None:
    source = foreign_onnx(tmp_path / "any.onnx", outputs=("map", "features", "logits"))
    listed = r"several outputs: map float32 \(N, 4, h, w\), features float32 \(N, 5\), logits"
    with pytest.raises(UsageError, match=listed):
        adopt_onnx(source, tmp_path / "model.onnx", SPEC)
    with pytest.raises(UsageError, match="no output 'pooled'; expected one of: map"):
        adopt_onnx(source, tmp_path / "model.onnx", SPEC, output="pooled")
    adopted = adopt_onnx(source, tmp_path / "model.onnx", SPEC, output="features")
    with open_session(adopted.path) as session:
        expected = own_answers(source, as_taken(PIXELS, "float32", False))
        np.testing.assert_allclose(session.embed(PIXELS), expected, rtol=1e-5, atol=1e-5)


def test_inputs_that_the_output_does_not_need_are_left_out(tmp_path: Path) -> None:
    """An export of CLIP has texts as a second input; the images' embedding does not read it."""
    source = foreign_onnx(tmp_path / "any.onnx", outputs=("features", "logits"), text_input=True)
    adopted = adopt_onnx(source, tmp_path / "model.onnx", SPEC, output="features")
    assert [value.name for value in onnx.load(adopted.path).graph.input] == ["images"]
    with pytest.raises(UsageError, match="one input of images for this output, found pixel_values"):
        adopt_onnx(source, tmp_path / "model.onnx", SPEC, output="logits")


def test_other_values_of_our_names_get_other_names(tmp_path: Path) -> None:
    source = foreign_onnx(tmp_path / "any.onnx")
    model = onnx.load(source)
    for node in model.graph.node:  # the map is called as our output, the kernel as our input
        node.output[:] = ["embedding" if name == "map" else name for name in node.output]
        renamed = {"map": "embedding", "kernel": "images"}
        node.input[:] = [renamed.get(name, name) for name in node.input]
    next(t for t in model.graph.initializer if t.name == "kernel").name = "images"
    onnx.save(model, source)
    adopted = adopt_onnx(source, tmp_path / "model.onnx", SPEC)
    with open_session(adopted.path) as session:
        expected = own_answers(source, as_taken(PIXELS, "float32", False))
        np.testing.assert_allclose(session.embed(PIXELS), expected, rtol=1e-5, atol=1e-5)


def test_weights_beside_the_file_are_part_of_it(tmp_path: Path) -> None:
    source = foreign_onnx(tmp_path / "any.onnx", external=True)
    inside = adopt_onnx(source, tmp_path / "inside.onnx", SPEC)
    beside = adopt_onnx(source, tmp_path / "beside.onnx", SPEC, external_data=True)
    assert inside.manifest.external_data is None
    assert beside.manifest.external_data == "beside.onnx.data"
    assert inside.manifest.source_sha256 == identity(source)
    source.with_name("any.onnx.weights").unlink()
    expected = None
    for adopted in (inside, beside):
        with open_session(adopted.path) as session:
            found = session.embed(PIXELS)
        expected = found if expected is None else expected
        np.testing.assert_array_equal(found, expected)
    with pytest.raises(ModelFileError, match="missing beside it"):
        adopt_onnx(source, tmp_path / "again.onnx", SPEC)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"size": 24}, UsageError, "takes images of 24x24 .*got a size of 16x16"),
        ({"dtype": "float64"}, UsageError, "expected an input of images, float32"),
        ({"opset": 6}, ModelFileError, "is of opset 6"),
    ],
)
def test_what_does_not_fit_is_refused(
    tmp_path: Path, options: dict[str, object], error: type[Exception], words: str
) -> None:
    source = foreign_onnx(tmp_path / "any.onnx", **options)
    with pytest.raises(error, match=words):
        adopt_onnx(source, tmp_path / "model.onnx", SPEC)
    assert not (tmp_path / "model.onnx").exists()


def test_a_grey_input_is_refused(tmp_path: Path) -> None:
    source = foreign_onnx(tmp_path / "any.onnx")
    model = onnx.load(source)
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 1
    onnx.save(model, source)
    with pytest.raises(UsageError, match="expected images of 3 channels, RGB"):
        adopt_onnx(source, tmp_path / "model.onnx", SPEC)


def test_damaged_files_give_one_line(tmp_path: Path) -> None:
    whole = foreign_onnx(tmp_path / "any.onnx").read_bytes()
    damaged, draw = tmp_path / "damaged.onnx", np.random.default_rng(0)
    (tmp_path / "empty.onnx").write_bytes(b"")
    with pytest.raises(ModelFileError, match="graph is empty"):
        adopt_onnx(tmp_path / "empty.onnx", tmp_path / "model.onnx", SPEC)
    with pytest.raises(ModelFileError, match="no such model file"):
        adopt_onnx(tmp_path / "gone.onnx", tmp_path / "model.onnx", SPEC)
    for cut in draw.integers(1, len(whole), 12):
        damaged.write_bytes(whole[:cut])
        with pytest.raises(GspDeployError):
            adopt_onnx(damaged, tmp_path / "model.onnx", SPEC)
    for _ in range(40):
        flipped = bytearray(whole)
        flipped[draw.integers(len(whole))] = draw.integers(256)
        damaged.write_bytes(bytes(flipped))
        with suppress(GspDeployError):  # a changed weight is still a network
            adopt_onnx(damaged, tmp_path / "model.onnx", SPEC)


def test_a_model_of_ours_and_the_file_itself_are_refused(tmp_path: Path) -> None:
    source = foreign_onnx(tmp_path / "any.onnx")
    with pytest.raises(UsageError, match="is also an input"):
        adopt_onnx(source, source, SPEC)
    adopted = adopt_onnx(source, tmp_path / "model.onnx", SPEC)
    with pytest.raises(UsageError, match="has a manifest of gsp-deploy already"):
        adopt_onnx(adopted.path, tmp_path / "again.onnx", SPEC)

"""What every session does alike, in PyTorch, in ONNX Runtime and in OpenVINO."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from gsp_deploy import open_session
from gsp_deploy.errors import CheckpointError, MissingCapabilityError, ModelFileError, UsageError
from gsp_deploy.runtime import EmbeddingSession, SessionOptions

SIZE = 32


# How each session is opened, by the kind of file and the options.
RUNTIMES = {
    "onnx": {},
    "torch": {},
    "openvino": {"runtime": "openvino"},
    "openvino, two at once": {"runtime": "openvino", "requests": 2, "threads": 2},
}


@pytest.fixture(params=RUNTIMES)
def images_session(request, tiny_export, tiny_checkpoint):
    """A session on images of 32 x 32 with embeddings of length 8."""
    path = tiny_checkpoint if request.param == "torch" else tiny_export
    with open_session(path, **RUNTIMES[request.param]) as session:
        yield session


@pytest.fixture(params=RUNTIMES)
def head_session(request, head_export, head_checkpoint):
    """A session on feature maps (batch, 6, height, width)."""
    path = head_checkpoint if request.param == "torch" else head_export()
    with open_session(path, **RUNTIMES[request.param]) as session:
        yield session


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (5, SIZE, SIZE, 3), np.uint8)


def test_it_says_what_it_runs(images_session) -> None:
    info = images_session.info
    assert info.path.exists()
    assert info.runtime.split()[0] in ("torch", "onnxruntime", "openvino")
    assert info.precision == "fp32"
    assert info.embedding_dim == 8
    assert info.input.shape == ("batch", 3, SIZE, SIZE)
    assert "embedding" in info.outputs
    assert info.preprocessing.height == SIZE


def test_pixels_and_normalised_floats_are_the_same(images_session, pixels) -> None:
    found = images_session.embed(pixels)
    assert found.shape == (5, 8)
    assert found.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=1e-5)
    prepared = images_session.prepare(pixels)
    assert prepared.dtype == np.float32
    for dtype in (np.float32, np.float64):
        np.testing.assert_array_equal(images_session.embed(prepared.astype(dtype)), found)
    np.testing.assert_array_equal(images_session.embed(list(pixels)), found)


def test_all_runtimes_agree(tiny_export, tiny_checkpoint, pixels) -> None:
    with open_session(tiny_checkpoint) as session:
        expected = session.embed(pixels)
    for options in RUNTIMES.values():
        with open_session(tiny_export, **options) as session:
            np.testing.assert_allclose(session.embed(pixels), expected, atol=1e-4)


@pytest.mark.parametrize("max_batch", [1, 2, 4, 64])
@pytest.mark.parametrize("runtime", [None, "openvino"])
def test_many_images_go_through_in_batches(
    max_batch, runtime, head_export, head_checkpoint, features
) -> None:
    for path in (head_export(), head_checkpoint, head_export(dynamic_batch=False)):
        if path == head_checkpoint and runtime is not None:
            continue
        with (
            open_session(path, runtime=runtime) as whole,
            open_session(path, runtime=runtime, max_batch=max_batch) as parts,
        ):
            expected, found = whole.run(features), parts.run(features)
            sizes = []
            infer = parts.infer
            parts.infer = lambda x, names, infer=infer, sizes=sizes: (  # type: ignore[method-assign]
                sizes.append(len(x)) or infer(x, names)
            )
            parts.run(features)
        for name, array in expected.items():
            assert array.shape[0] == 7
            np.testing.assert_allclose(found[name], array, atol=1e-6)
        assert max(sizes) <= max_batch
        assert sum(sizes) == 7


def test_no_images_have_empty_outputs_of_the_right_shape(images_session, head_session) -> None:
    empty = np.zeros((0, SIZE, SIZE, 3), np.uint8)
    assert images_session.embed(empty).shape == (0, 8)
    found = head_session.run(np.zeros((0, 6, 3, 4), np.float32))
    shapes = {name: array.shape for name, array in found.items()}
    always = {"embedding": (0, 5), "attributes": (0, 4), "weights": (0, 3, 4)}
    assert {name: shapes[name] for name in always} == always
    assert {shapes[name] for name in shapes.keys() - always.keys()} <= {(0,)}


@pytest.mark.parametrize("runtime", [None, "openvino"])
def test_a_fixed_batch_of_no_images(runtime, head_export) -> None:
    with open_session(head_export(dynamic_batch=False), runtime=runtime) as session:
        assert session.embed(np.zeros((0, 6, 2, 2), np.float32)).shape == (0, 5)


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        ((2, 3, SIZE, SIZE), np.uint8),
        ((SIZE, SIZE, 3), np.uint8),
        ((2, SIZE, SIZE + 1, 3), np.uint8),
        ((2, SIZE, SIZE, 4), np.uint8),
        ((2, SIZE, SIZE, 3), np.float32),
        ((2, 3, SIZE, SIZE + 1), np.float32),
        ((3, SIZE, SIZE), np.float32),
        ((2, 3, SIZE, SIZE), np.int64),
        ((2, 3, SIZE, SIZE), np.bool_),
        ((2, 3, SIZE, SIZE), np.complex64),
    ],
)
def test_wrong_images_are_told_what_is_expected(images_session, shape, dtype) -> None:
    with pytest.raises(UsageError) as caught:
        images_session.embed(np.zeros(shape, dtype))
    message = str(caught.value)
    assert "32, 32" in message or "(batch, height, width, 3)" in message
    got = message.split("got ")[1]
    assert str(SIZE) in got
    assert "\n" not in message


def test_pixels_of_another_size_are_told_as_given_and_how_to_resize(images_session) -> None:
    with pytest.raises(UsageError) as caught:
        images_session.embed(np.zeros((2, 50, 40, 3), np.uint8))
    assert "expected images of shape (batch, 32, 32, 3), got (2, 50, 40, 3)" in str(caught.value)
    assert "load_image" in str(caught.value)


def test_features_are_told_what_is_expected(head_session) -> None:
    for wrong in (np.zeros((2, 5, 3, 4), np.float32), np.zeros((2, 6, 0, 4), np.float32)):
        with pytest.raises(UsageError, match=r"features of shape \(batch, 6, height, width\)"):
            head_session.embed(wrong)
    with pytest.raises(UsageError, match=r"float \(batch, 6, height, width\), got uint8") as caught:
        head_session.embed(np.zeros((2, 6, 3, 4), np.uint8))
    assert "expected features, float" in str(caught.value)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
def test_images_that_are_not_finite_are_refused(images_session, value) -> None:
    images = np.zeros((2, 3, SIZE, SIZE))
    images[1, 2, 3, 4] = value
    with pytest.raises(UsageError, match="NaN or infinity"):
        images_session.embed(images)


def test_images_of_several_sizes_are_refused(images_session) -> None:
    with pytest.raises(UsageError, match="one size"):
        images_session.embed([np.zeros((4, 4, 3), np.uint8), np.zeros((5, 4, 3), np.uint8)])


def test_outputs_by_name(head_session, features) -> None:
    found = head_session.run(features)
    assert tuple(found) == head_session.info.outputs
    assert set(found) >= {"embedding", "attributes", "weights"}
    assert list(head_session.run(features, ("weights",))) == ["weights"]
    with pytest.raises(UsageError, match="no output 'logits', only embedding"):
        head_session.run(features, ("logits",))


def test_a_closed_session_says_so(head_session, features) -> None:
    head_session.close()
    head_session.close()
    assert head_session.closed
    with pytest.raises(UsageError, match="closed"):
        head_session.embed(features)


def test_leaving_the_block_closes_also_after_an_error(head_export) -> None:
    def fail() -> EmbeddingSession:
        with open_session(head_export()) as session:
            opened.append(session)
            raise RuntimeError

    opened: list[EmbeddingSession] = []
    with pytest.raises(RuntimeError):
        fail()
    assert opened[0].closed


def test_threads_share_a_session(head_session, features) -> None:
    expected = head_session.run(features)
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(lambda _: head_session.run(features), range(40)):
            for name, array in expected.items():
                assert np.array_equal(found[name], array)


@pytest.mark.parametrize("name", ["model.tflite", "model", "model.onnx.json", "model.ONNX"])
def test_other_suffixes_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"\.onnx"):
        open_session(tmp_path / name)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"device": "gpu"}, "cpu, cuda or cuda:N"),
        ({"device": "cuda:x"}, "cpu, cuda or cuda:N"),
        ({"threads": 0}, "threads"),
        ({"max_batch": 0}, "max_batch"),
        ({"runtime": "tensorflow"}, "runtime must be one of onnxruntime, openvino"),
        ({"runtime": "openvino", "precision": "int8"}, "precision must be one of fp32, fp16, bf16"),
        ({"runtime": "openvino", "requests": -1}, "requests"),
        ({"precision": "bf16"}, "precision is a setting of OpenVINO"),
        ({"runtime": "onnxruntime", "requests": 2}, "requests is a setting of OpenVINO"),
        ({"model_cache": Path("cache")}, "model_cache is a setting of OpenVINO"),
    ],
)
def test_options_outside_their_domain(options, named) -> None:
    with pytest.raises(UsageError, match=named):
        SessionOptions(**options)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_a_device_that_is_not_there(device, head_export, head_checkpoint) -> None:
    for path in (head_export(), head_checkpoint):
        with pytest.raises(MissingCapabilityError, match=r"(?i)cuda") as caught:
            open_session(path, device)
        assert caught.value.exit_code == 4


def test_missing_files_are_named(tmp_path: Path) -> None:
    for name, error in (("none.onnx", ModelFileError), ("none.safetensors", CheckpointError)):
        with pytest.raises(error, match=name):
            open_session(tmp_path / name)


@pytest.mark.parametrize(
    ("package", "extra", "runtime"),
    [
        ("onnxruntime", "cpu", None),
        ("torch", "train", None),
        ("openvino", "openvino", "openvino"),
    ],
)
def test_a_runtime_that_is_not_installed_is_named(
    package, extra, runtime, head_export, head_checkpoint
) -> None:
    path = head_checkpoint if package == "torch" else head_export()
    script = (
        f"import sys; sys.modules[{package!r}] = None\n"
        "from gsp_deploy.errors import MissingCapabilityError\n"
        "from gsp_deploy.runtime import open_session\n"
        "try:\n"
        f"    open_session({str(path)!r}, runtime={runtime!r})\n"
        "except MissingCapabilityError as error:\n"
        "    print(error)\n"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert f"gsp-deploy[{extra}]" in ran.stdout
    assert package in ran.stdout


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_every_session_says_how_far_off_it_is(
    runtime, head_export, head_checkpoint, features
) -> None:
    path = head_checkpoint if runtime == "torch" else head_export(outputs=("residual",))
    with open_session(path, **RUNTIMES[runtime]) as session:
        found = session.run(features, ("residual", "embedding_bound"))
        nothing = session.run(features[:0], ("residual",))["residual"]
    for values in found.values():
        assert values.shape == (len(features),)
        assert values.dtype == np.float32
        assert values.max() < 1e-5
    assert nothing.shape == (0,)


def test_a_bound_comes_with_the_residual(head_export, features) -> None:
    with open_session(head_export()) as session, pytest.raises(UsageError) as raised:
        session.run(features, ("embedding_bound",))
    assert str(raised.value).endswith("export it with --also residual")

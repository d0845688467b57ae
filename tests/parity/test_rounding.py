"""float16 on the CPU, rounded as hardware rounds it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from gsp_deploy.artifact.half_precision import widen
from gsp_deploy.base.elements import ELEMENTS
from gsp_deploy.parity import open_rounding
from gsp_deploy.runtime import open_session

OVERFLOWING = """
<ir_version: 10, opset_import: ["" : 18]>
squares_of_embedding (float[batch, 3, 1, 1] images) => (float[batch, 3] embedding)
<float16[3, 3, 1, 1] kernel = {15360, 0, 0, 0, 15360, 0, 0, 0, 15360}>
{
    low = Cast<to = 10>(images)
    same = Conv(low, kernel)
    square = Mul(same, same)
    root = Div(square, same)
    flat = Flatten(root)
    embedding = Cast<to = 1>(flat)
}
"""


@pytest.fixture
def overflowing(tmp_path: Path) -> Path:
    """x -> x * x / x in float16 (15360 is 1.0): infinite on the way where |x| is above 256."""
    path = tmp_path / "overflowing.onnx"
    onnx.save(onnx.parser.parse_model(OVERFLOWING), path)
    return path


def in_numpy(images: np.ndarray) -> np.ndarray:
    low = images.reshape(len(images), -1).astype(np.float16)
    with np.errstate(over="ignore", invalid="ignore"):
        return ((low * low) / low).astype(np.float32)


def test_every_result_is_rounded_as_numpy_rounds_it(overflowing: Path) -> None:
    images = np.random.default_rng(5).uniform(1, 400, (9, 3, 1, 1)).astype(np.float32)
    with open_rounding(overflowing) as session:
        found = session.embed(images)
        assert session.info.device == "CPU, float16 emulated"
        assert session.info.path == overflowing
    np.testing.assert_array_equal(found, in_numpy(images))
    assert np.isinf(found).any()


def test_onnx_runtime_alone_does_not_see_the_overflow(overflowing: Path) -> None:
    """The reason for all this; if it fails one day, the emulation can go."""
    images = np.full((1, 3, 1, 1), 1000, np.float32)
    with open_session(overflowing) as session:
        assert np.isfinite(session.embed(images)).all()


def test_what_has_no_float16_is_opened_as_it_is(exported: Path) -> None:
    assert widen(exported / "fp32.onnx", ELEMENTS["float16"]) is None
    with open_rounding(exported / "fp32.onnx") as session:
        assert session.info.device == "CPU"
    with open_rounding(exported / "model.safetensors") as session:
        assert session.info.runtime.startswith("torch")


def test_a_whole_model_is_further_from_float32_when_its_rounding_counts(
    exported: Path, photographs: np.ndarray
) -> None:
    errors = []
    for opening in (open_session, open_rounding):
        with (
            opening(exported / "fp16.onnx") as candidate,
            opening(exported / "fp32.onnx") as reference,
        ):
            difference = candidate.embed(photographs) - reference.embed(photographs)
            errors.append(float(np.square(difference).mean()))
    assert errors[0] < errors[1] < 1e-4


def test_widening_touches_only_its_own_type(overflowing: Path) -> None:
    assert widen(overflowing, ELEMENTS["bfloat16"]) is None
    widened = widen(overflowing, ELEMENTS["float16"])
    assert widened is not None
    onnx.checker.check_model(onnx.load_from_string(widened), full_check=True)
    onnxruntime.InferenceSession(widened, providers=["CPUExecutionProvider"])

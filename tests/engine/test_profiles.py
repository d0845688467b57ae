"""Ranges of batch and size: the shapes that they give an input, and the ranges that are refused."""

from __future__ import annotations

import pytest

from gsp_deploy.artifact import ExportManifest, TensorSpec
from gsp_deploy.artifact.engine_manifest import ShapeRange
from gsp_deploy.config import GSPConfig, ModelConfig, PreprocessingSpec
from gsp_deploy.engine.profiles import SizeRange, make_profiles, parse_batch, parse_size
from gsp_deploy.errors import UsageError

OPEN = TensorSpec("images", "float32", (-1, 3, -1, -1))
BATCH = TensorSpec("images", "float32", (-1, 3, 32, 48))
STATIC = TensorSpec("images", "float32", (1, 3, 32, 48))
PIXELS = TensorSpec("images", "uint8", (-1, -1, -1, 3))
FEATURES = TensorSpec("features", "float32", (-1, 6, -1, -1))


def export_of(height: int, width: int) -> ExportManifest:
    model = ModelConfig("resnet18", GSPConfig(512, 8, 4), PreprocessingSpec(height, width))
    return ExportManifest(model, "fp32", 18, (OPEN,), (OPEN,), False, None)


@pytest.mark.parametrize(
    ("text", "expected"), [("8", (8, 8, 8)), ("1:8:64", (1, 8, 64)), ("4:4:4", (4, 4, 4))]
)
def test_a_batch(text: str, expected: tuple[int, int, int]) -> None:
    assert parse_batch(text) == SizeRange(*expected)


@pytest.mark.parametrize(
    "text", ["", "a", "1:2", "1:2:3:4", "8:4:2", "0:1:2", "-1", "1:2:x", "1.5"]
)
def test_a_bad_batch_is_named(text: str) -> None:
    with pytest.raises(UsageError, match="--batch"):
        parse_batch(text)


def test_a_size_is_square_or_has_two_sides() -> None:
    square, oblong = parse_size("224:224:448"), parse_size("192x320:384x640:768x1280")
    assert square.height == square.width == SizeRange(224, 224, 448)
    assert oblong.height == SizeRange(192, 384, 768)
    assert oblong.width == SizeRange(320, 640, 1280)


@pytest.mark.parametrize("text", ["x", "224x", "448:224:224", "224x320x3", "1x2:3"])
def test_a_bad_size_is_named(text: str) -> None:
    with pytest.raises(UsageError, match="--size"):
        parse_size(text)


def test_defaults_come_from_what_is_open() -> None:
    assert make_profiles(STATIC, None) == ({"images": ShapeRange(*[(1, 3, 32, 48)] * 3)},)
    (batch,) = make_profiles(BATCH, None)
    assert batch["images"] == ShapeRange((1, 3, 32, 48), (8, 3, 32, 48), (64, 3, 32, 48))
    (sizes,) = make_profiles(OPEN, export_of(224, 320))
    assert sizes["images"] == ShapeRange((1, 3, 96, 160), (8, 3, 224, 320), (64, 3, 448, 640))
    (small,) = make_profiles(OPEN, export_of(40, 24))
    assert small["images"].min == (1, 3, 32, 24)


def test_pixels_have_their_sizes_in_the_middle() -> None:
    (found,) = make_profiles(PIXELS, None, sizes=[parse_size("32x48")], batches=[parse_batch("2")])
    assert found["images"] == ShapeRange(*[(2, 32, 48, 3)] * 3)


def test_several_profiles_pair_up_or_share() -> None:
    batches = [parse_batch("1"), parse_batch("4:8:16")]
    sizes = [parse_size("64"), parse_size("96:128:160")]
    paired = make_profiles(OPEN, None, batches, sizes)
    assert [p["images"].max for p in paired] == [(1, 3, 64, 64), (16, 3, 160, 160)]
    shared = make_profiles(OPEN, None, batches, sizes[:1])
    assert [p["images"].opt for p in shared] == [(1, 3, 64, 64), (8, 3, 64, 64)]
    with pytest.raises(UsageError, match="2 --batch and 3 --size do not pair up"):
        make_profiles(OPEN, None, batches, [*sizes, sizes[0]])


def test_a_fixed_size_may_be_asked_for_but_no_other() -> None:
    assert make_profiles(STATIC, None, [parse_batch("1")], [parse_size("32x48")])
    with pytest.raises(UsageError, match=r"the batch is fixed to 1 .* without --static-batch"):
        make_profiles(STATIC, None, [parse_batch("1:8:64")])
    with pytest.raises(UsageError, match=r"the height is fixed to 32 .* with --dynamic-size"):
        make_profiles(BATCH, None, sizes=[parse_size("64")])


def test_an_open_size_without_a_default_is_asked_for() -> None:
    with pytest.raises(UsageError, match=r"features leaves its height open.*--size"):
        make_profiles(FEATURES, None)
    with pytest.raises(UsageError, match="neither batch, height nor width"):
        make_profiles(TensorSpec("x", "float32", (-1, -1, 8, 8)), None)
    with pytest.raises(UsageError, match="four sizes"):
        make_profiles(TensorSpec("x", "float32", (-1, 8)), None)

"""Targets and options: what you can ask of each TensorRT on each machine."""

from __future__ import annotations

import dataclasses

import pytest
from builder_double import tensorrt_double

from gsp_deploy.engine.api import FLAVOURS, TensorRT, load_tensorrt, version_numbers
from gsp_deploy.engine.machine import Machine
from gsp_deploy.engine.options import BuildOptions, parse_bytes
from gsp_deploy.engine.targets import choose_targets, known_targets, parse_targets
from gsp_deploy.errors import MissingCapabilityError, UsageError

NOTHING = Machine("tensorrt-rtx", "1.7", None, None, None, "linux x86_64")
ADA = dataclasses.replace(NOTHING, device="RTX 4090", compute_capability="8.9")
ORIN = dataclasses.replace(NOTHING, flavour="tensorrt", device="Orin", compute_capability="8.7")


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["sm_86"], ("8.6",)),
        (["sm86", "8.6", "86"], ("8.6",)),
        (["sm_86,sm_120", "8.9"], ("8.6", "12.0", "8.9")),
        (["all"], ("all",)),
        ([], ()),
    ],
)
def test_targets_are_read(texts: list[str], expected: tuple[str, ...]) -> None:
    assert parse_targets(texts) == expected


@pytest.mark.parametrize("text", ["sm_", "ada", "sm_8", "sm_8600", "", "sm_86,,", "all,sm_86"])
def test_bad_targets_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="target"):
        parse_targets([text])


def test_rtx_builds_for_what_is_asked_for_or_here_or_all(rtx: TensorRT) -> None:
    known = tuple(known_targets(rtx))
    assert {"7.5", "8.0", "8.6", "8.9", "12.0", "12.1"} <= set(known)
    assert choose_targets(rtx, ("12.0", "8.6"), ADA) == (("12.0", "8.6"), False)
    assert choose_targets(rtx, (), ADA) == (("8.9",), False)
    assert choose_targets(rtx, (), NOTHING) == (known, True)
    assert choose_targets(rtx, ("all",), ADA) == (known, True)


def test_rtx_names_its_targets_when_another_is_asked_for(rtx: TensorRT) -> None:
    with pytest.raises(UsageError, match=r"build for sm_87, only for sm_75, sm_80.*Jetson"):
        choose_targets(rtx, ("8.7",), NOTHING)


def test_tensorrt_builds_for_the_gpu_that_is_here() -> None:
    tensorrt = tensorrt_double()
    assert choose_targets(tensorrt, (), ORIN) == (("8.7",), False)
    with pytest.raises(UsageError, match="leave --target out"):
        choose_targets(tensorrt, ("8.7",), ORIN)
    with pytest.raises(MissingCapabilityError, match="CUDA finds none here; build on that machine"):
        choose_targets(tensorrt, (), NOTHING)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("1048576", 1 << 20), ("512M", 512 << 20), ("512MiB", 512 << 20), ("1.5g", 3 << 29)],
)
def test_amounts_of_memory(text: str, expected: int) -> None:
    assert parse_bytes(text) == expected


@pytest.mark.parametrize("text", ["", "much", "-1G", "1T", "1 2"])
def test_a_bad_amount_of_memory_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="512M"):
        parse_bytes(text)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"precision": "fp8"}, "precision"),
        ({"workspace": 1}, "1 MiB"),
        ({"optimization_level": 6}, "0 to 5"),
        ({"hardware_compatibility": "turing+"}, "ampere"),
    ],
)
def test_options_hold_only_what_can_be(settings: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        BuildOptions(**settings)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("settings", "error", "words"),
    [
        ({"hardware_compatibility": "ampere+"}, UsageError, "--target sm_86,sm_120"),
        ({"version_compatible": True}, UsageError, "their own version"),
        ({"refit": True}, MissingCapabilityError, "only where there is a GPU"),
        ({"strip_weights": True}, MissingCapabilityError, "only where there is a GPU"),
    ],
)
def test_what_rtx_cannot_do_is_refused_before_the_build(
    settings: dict[str, object], error: type[Exception], words: str, rtx: TensorRT
) -> None:
    with pytest.raises(error, match=words):
        BuildOptions(**settings).check_against(rtx, has_gpu=False)  # type: ignore[arg-type]


def test_a_flag_that_a_version_has_not_got_is_named() -> None:
    tensorrt = tensorrt_double()
    del tensorrt.module.BuilderFlag.WEIGHT_STREAMING
    with pytest.raises(
        MissingCapabilityError, match=r"10\.3\.0 has no build flag WEIGHT_STREAMING"
    ):
        BuildOptions(weight_streaming=True).check_against(tensorrt, has_gpu=True)


def test_an_unknown_flavour_is_named() -> None:
    with pytest.raises(UsageError, match="tensorrt, tensorrt-rtx"):
        load_tensorrt("onnxruntime")


def test_a_missing_tensorrt_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from gsp_deploy.engine import api

    monkeypatch.setattr(api, "_MODULES", dict.fromkeys(FLAVOURS, ("no_such_module",)))
    api._load.cache_clear()
    for flavour in (None, *FLAVOURS):
        with pytest.raises(MissingCapabilityError, match="pip install"):
            load_tensorrt(flavour)
    api._load.cache_clear()


def test_a_module_that_does_not_load_is_reported(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    from gsp_deploy.engine import api

    (tmp_path / "broken_tensorrt.py").write_text("raise OSError('libnvinfer.so.10: not found')")
    (tmp_path / "old_tensorrt.py").write_text("__version__ = '8.6.1'")
    monkeypatch.syspath_prepend(tmp_path)
    for name, words in (("broken_tensorrt", "libnvinfer.so.10"), ("old_tensorrt", "too old")):
        monkeypatch.setattr(api, "_MODULES", {"tensorrt": (name,), "tensorrt-rtx": ()})
        api._load.cache_clear()
        with pytest.raises(MissingCapabilityError, match=words):
            load_tensorrt()
    api._load.cache_clear()


def test_versions_compare_as_numbers() -> None:
    assert version_numbers("10.16.1.11") > version_numbers("10.3.0")
    assert version_numbers("10.13.3.9.post1")[:2] == (10, 13)

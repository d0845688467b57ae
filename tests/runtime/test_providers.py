"""How ONNX Runtime's providers are set up, on machines that have them and this one that has not."""

from __future__ import annotations

from pathlib import Path

import onnxruntime
import pytest

from gsp_deploy.runtime import SessionOptions
from gsp_deploy.runtime.providers import CPU, CUDA, TENSORRT, provider_chain, provider_name

EVERYTHING = [TENSORRT, CUDA, CPU]


@pytest.fixture(autouse=True)
def _all_are_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: EVERYTHING)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


@pytest.mark.parametrize("asked", ["tensorrt", "TensorRT", TENSORRT])
def test_what_tensorrt_cannot_take_cuda_runs(asked: str, tmp_path: Path) -> None:
    options = SessionOptions("cuda:1", provider=asked)
    name = provider_name(options)
    (first, settings), (second, others) = provider_chain(name, options)
    assert (first, second) == (TENSORRT, CUDA)
    assert settings["device_id"] == others["device_id"] == "1"
    assert settings["trt_engine_cache_enable"] == "1"
    assert settings["trt_engine_cache_path"].startswith(str(tmp_path))


def test_settings_of_the_caller_come_last() -> None:
    given = {"trt_engine_cache_enable": "0", "trt_max_workspace_size": "1073741824"}
    options = SessionOptions("cuda", provider=TENSORRT, provider_options=given)
    settings = provider_chain(TENSORRT, options)[0][1]
    assert given.items() <= settings.items()
    assert "device_id" not in settings


def test_the_cpu_is_told_nothing_of_devices() -> None:
    assert provider_chain(CPU, SessionOptions()) == [(CPU, {})]
    ((name, settings),) = provider_chain(CUDA, SessionOptions("cuda:2"))
    assert (name, settings["device_id"]) == (CUDA, "2")

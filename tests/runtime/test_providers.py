"""Settings of ONNX Runtime's providers; those of GPUs are looked at, not run."""

from __future__ import annotations

from pathlib import Path

import onnxruntime
import pytest

from gsp_deploy.errors import MissingCapabilityError
from gsp_deploy.runtime.providers import CPU, CUDA, TENSORRT, provider_chain, provider_name
from gsp_deploy.runtime.session import SessionOptions


@pytest.fixture
def all_providers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [TENSORRT, CUDA, CPU])
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


@pytest.mark.usefixtures("all_providers")
@pytest.mark.parametrize("asked", ["TensorrtExecutionProvider", "tensorrt"])
def test_a_provider_goes_by_its_long_and_its_short_name(asked: str) -> None:
    assert provider_name(SessionOptions("cuda:1", provider=asked)) == TENSORRT


@pytest.mark.usefixtures("all_providers")
def test_float32_stays_float32_on_cuda() -> None:
    for provider in (CUDA, TENSORRT):
        chain = dict(provider_chain(provider, SessionOptions("cuda:1")))
        assert chain[CUDA] == {"device_id": "1", "use_tf32": "0"}


@pytest.mark.usefixtures("all_providers")
def test_tensorrt_keeps_its_engines_and_leaves_the_rest_to_cuda(tmp_path: Path) -> None:
    chain = provider_chain(TENSORRT, SessionOptions("cuda"))
    assert [name for name, _ in chain] == [TENSORRT, CUDA]
    assert chain[0][1]["trt_engine_cache_enable"] == "1"
    assert Path(chain[0][1]["trt_engine_cache_path"]).is_relative_to(tmp_path)


@pytest.mark.usefixtures("all_providers")
def test_settings_of_the_caller_come_last() -> None:
    given = {"trt_engine_cache_enable": "0", "trt_max_workspace_size": "1073741824"}
    options = SessionOptions("cuda", provider=TENSORRT, provider_options=given)
    settings = provider_chain(TENSORRT, options)[0][1]
    assert given.items() <= settings.items()
    assert "device_id" not in settings


def test_the_cpu_takes_no_settings() -> None:
    assert provider_chain(CPU, SessionOptions()) == [(CPU, {})]


def test_a_provider_that_is_not_there_is_named() -> None:
    with pytest.raises(MissingCapabilityError, match="no nonsense, only"):
        provider_name(SessionOptions(provider="nonsense"))

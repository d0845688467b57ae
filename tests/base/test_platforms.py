"""Lines that install something are for the platform that they are printed on."""

from __future__ import annotations

from pathlib import Path

import pytest

from gsp_deploy.base import platforms
from gsp_deploy.base.platforms import install_line, is_jetson
from gsp_deploy.doctor import needs
from gsp_deploy.engine import api
from gsp_deploy.errors import MissingCapabilityError


@pytest.fixture
def jetson(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platforms, "is_jetson", lambda: True)
    monkeypatch.setattr(needs, "is_jetson", lambda: True)


def test_a_jetson_is_known_by_its_release_file(tmp_path: Path) -> None:
    release = tmp_path / "nv_tegra_release"
    assert not is_jetson(release)
    release.write_text("# R36 (release), REVISION: 4.0")
    assert is_jetson(release)


@pytest.mark.parametrize("extra", ["cpu", "gpu", "rtx", "serve"])
def test_elsewhere_pip_brings_it(extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platforms, "is_jetson", lambda: False)
    assert install_line(extra) == f"pip install 'gsp-deploy[{extra}]'"


@pytest.mark.usefixtures("jetson")
def test_on_a_jetson_jetpack_brings_what_pypi_does_not_have() -> None:
    assert "nvidia-jetpack" in install_line("gpu")
    assert "not made for a Jetson" in install_line("rtx")
    assert "not tried on a Jetson" in install_line("lean")
    assert install_line("cpu") == "pip install 'gsp-deploy[cpu]'"


@pytest.mark.usefixtures("jetson")
def test_doctor_on_a_jetson_names_no_wheel_that_does_not_exist(monkeypatch) -> None:
    monkeypatch.setattr(needs, "can_import", lambda module: False)
    lines = [line for state in needs.readiness(needs.needs_beside_packages())
             for line in state.remedies]  # fmt: skip
    assert lines
    absent = ("gsp-deploy[gpu]", "gsp-deploy[rtx]", "gsp-deploy[lean]", "install tensorrt",
              "install onnxruntime-gpu", "nvidia-ml-py", "nvidia-driver")  # fmt: skip
    assert not [line for line in lines if any(word in line for word in absent)]


@pytest.mark.usefixtures("jetson")
def test_builds_on_a_jetson_name_jetpack(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "is_jetson", lambda: True)
    monkeypatch.setattr(api, "can_import", lambda module: False)
    for flavour in (None, "tensorrt"):
        with pytest.raises(
            MissingCapabilityError, match="sudo apt install nvidia-jetpack"
        ) as found:
            api.load_tensorrt(flavour)
        assert "pip install" not in str(found.value)

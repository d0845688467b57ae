"""Readings by NVML of a card that does not exist: stubs replace NVML's functions."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from host_device import HostDevice

from gsp_deploy.benchmark.gpu.telemetry import open_telemetry
from gsp_deploy.benchmark.gpu.telemetry.sample import Sample
from gsp_deploy.errors import MissingCapabilityError

pynvml = pytest.importorskip("pynvml")
nvml = pytest.importorskip("gsp_deploy.benchmark.gpu.telemetry.nvml")

CARD = replace(HostDevice().properties(), pci_bus_id="0000:07:00.0")
JETSON = replace(CARD, integrated=True)
REASONS = ("nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons")


class Card:
    """NVML's functions for one card; those in `lacks` report that it does not support them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.users, self.lacks = 0, set[str]()
        self.clocks = {pynvml.NVML_CLOCK_SM: 1410, pynvml.NVML_CLOCK_MEM: 1215}
        for name, answer in (
            ("nvmlInit", lambda: self.count(1)),
            ("nvmlShutdown", lambda: self.count(-1)),
            ("nvmlDeviceGetHandleByPciBusId", self.handle),
            ("nvmlDeviceGetPowerUsage", lambda handle: 250_000),
            ("nvmlDeviceGetClockInfo", lambda handle, kind: self.clocks[kind]),
            ("nvmlDeviceGetTemperature", lambda handle, sensor: 61),
            ("nvmlDeviceGetTotalEnergyConsumption", lambda handle: 1_500_500),
            (REASONS[0], lambda handle: 0x4 | 0x20),
        ):
            monkeypatch.setattr(pynvml, name, self.answering(name, answer))

    def answering(self, name: str, answer: Callable[..., Any]) -> Callable[..., Any]:
        def ask(*arguments: Any) -> Any:
            if name in self.lacks:
                raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
            return answer(*arguments)

        return ask

    def count(self, change: int) -> None:
        self.users += change

    def handle(self, pci_bus_id: bytes) -> str:
        if pci_bus_id != CARD.pci_bus_id.encode():
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_FOUND)
        return "the handle"


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> Card:
    return Card(monkeypatch)


def test_a_reading_is_in_our_units(card: Card) -> None:
    with open_telemetry(CARD) as source:
        assert source.name == "NVML"
        assert source.energy_joules() == 1500.5
        assert source.read(3.0) == Sample(
            3.0, 1410, 1215, 250.0, 61, ("power cap", "software thermal slowdown")
        )
        assert card.users == 1
    assert card.users == 0


@pytest.mark.parametrize(
    ("function", "missing"),
    [
        ("nvmlDeviceGetPowerUsage", {"watts": None}),
        ("nvmlDeviceGetClockInfo", {"gpu_mhz": None, "memory_mhz": None}),
        ("nvmlDeviceGetTemperature", {"celsius": None}),
        (REASONS[0], {"throttling": ()}),
    ],
)
def test_readings_that_a_card_lacks_are_none_and_the_rest_is_kept(
    card: Card, function: str, missing: dict[str, Any]
) -> None:
    with open_telemetry(CARD) as source:
        whole = source.read(0.0)
        card.lacks = {function}
        assert source.read(0.0) == replace(whole, **missing) != whole
        card.lacks = {"nvmlDeviceGetTotalEnergyConsumption"}
        assert source.energy_joules() is None


@pytest.mark.parametrize("function", ["nvmlInit", "nvmlDeviceGetHandleByPciBusId"])
def test_an_unknown_card_is_an_error_and_nvml_is_shut_down(card: Card, function: str) -> None:
    card.lacks = {function}
    with (
        pytest.raises(MissingCapabilityError, match=r"read the GPU at 0000:07:00\.0: Not Supp"),
        open_telemetry(CARD),
    ):
        pytest.fail("there is nothing to read")
    assert card.users == 0


def test_releases_with_one_name_for_the_reasons(card: Card, monkeypatch) -> None:
    for there, gone in (REASONS, REASONS[::-1]):
        with monkeypatch.context() as patch:
            patch.setattr(pynvml, there, lambda handle: 0x40, raising=False)
            patch.delattr(pynvml, gone)
            with open_telemetry(CARD) as source:
                assert source.read(0.0).throttling == ("hardware thermal slowdown",)


def test_the_bits_are_nvmls() -> None:
    held_down = {
        pynvml.nvmlClocksThrottleReasonSwPowerCap: "power cap",
        pynvml.nvmlClocksThrottleReasonHwSlowdown: "hardware slowdown",
        pynvml.nvmlClocksThrottleReasonSwThermalSlowdown: "software thermal slowdown",
        pynvml.nvmlClocksThrottleReasonHwThermalSlowdown: "hardware thermal slowdown",
        pynvml.nvmlClocksThrottleReasonHwPowerBrakeSlowdown: "power brake",
    }
    for bit, words in held_down.items():
        assert nvml.throttle_words(bit) == (words,)
    chosen = (
        pynvml.nvmlClocksThrottleReasonGpuIdle
        | pynvml.nvmlClocksThrottleReasonApplicationsClocksSetting
        | pynvml.nvmlClocksThrottleReasonSyncBoost
        | pynvml.nvmlClocksThrottleReasonDisplayClockSetting
    )
    assert nvml.throttle_words(chosen) == ()


def test_a_jetson_is_measured_by_tegrastats_if_it_is_on_the_path(
    card: Card, tmp_path, monkeypatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with open_telemetry(JETSON) as source:
        assert source.name == "NVML"
    program = tmp_path / "tegrastats"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    assert open_telemetry(JETSON).name == "tegrastats"
    assert open_telemetry(CARD).name == "NVML"


def test_without_nvml_the_package_is_named(monkeypatch) -> None:
    monkeypatch.delitem(sys.modules, nvml.__name__)
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with pytest.raises(MissingCapabilityError, match="pip install nvidia-ml-py"):
        open_telemetry(CARD)

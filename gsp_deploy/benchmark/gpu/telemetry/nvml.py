"""Read the state of a graphics card by NVML."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pynvml

from gsp_deploy.benchmark.gpu.telemetry.sample import Sample, Source
from gsp_deploy.errors import MissingCapabilityError, reason_of

# Bits of NVML's clock event reasons that mean throttling: the clocks are lower than the load needs.
# Bits for an idle GPU or for clocks set by a user are not among them.
_REASONS = {
    0x4: "power cap",
    0x8: "hardware slowdown",
    0x20: "software thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "power brake",
}
_MILLI = 1e-3


class Nvml(Source):
    """One graphics card, found by its PCI address."""

    name = "NVML"

    def __init__(self, pci_bus_id: str) -> None:
        self._pci_bus_id = pci_bus_id
        self._handle: Any = None

    def __enter__(self) -> Nvml:
        with ExitStack() as undo:
            try:
                pynvml.nvmlInit()
                undo.callback(pynvml.nvmlShutdown)
                self._handle = pynvml.nvmlDeviceGetHandleByPciBusId(self._pci_bus_id.encode())
            except pynvml.NVMLError as error:
                raise MissingCapabilityError(
                    f"NVML cannot read the GPU at {self._pci_bus_id}: {reason_of(error)}"
                ) from error
            undo.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        pynvml.nvmlShutdown()

    def read(self, seconds: float) -> Sample:
        handle = self._handle
        milliwatts = _ask(pynvml.nvmlDeviceGetPowerUsage, handle)
        return Sample(
            seconds,
            gpu_mhz=_ask(pynvml.nvmlDeviceGetClockInfo, handle, pynvml.NVML_CLOCK_SM),
            memory_mhz=_ask(pynvml.nvmlDeviceGetClockInfo, handle, pynvml.NVML_CLOCK_MEM),
            watts=None if milliwatts is None else milliwatts * _MILLI,
            celsius=_ask(pynvml.nvmlDeviceGetTemperature, handle, pynvml.NVML_TEMPERATURE_GPU),
            throttling=throttle_words(int(_ask(_event_reasons(), handle) or 0)),
        )

    def energy_joules(self) -> float | None:
        millijoules = _ask(pynvml.nvmlDeviceGetTotalEnergyConsumption, self._handle)
        return None if millijoules is None else millijoules * _MILLI


def throttle_words(bits: int) -> tuple[str, ...]:
    """Return the names of the throttling reasons in a bit mask.

    >>> throttle_words(0x4 | 0x40)
    ('power cap', 'hardware thermal slowdown')
    """
    return tuple(words for bit, words in _REASONS.items() if bits & bit)


def _event_reasons() -> Callable[..., Any]:
    """Return NVML's function under its new name, or its old name in older releases."""
    new, old = "nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons"
    found: Callable[..., Any] = getattr(pynvml, new if hasattr(pynvml, new) else old)
    return found


def _ask(function: Callable[..., Any], *arguments: Any) -> float | None:
    """Return the reading, or None if this card does not support it."""
    try:
        return float(function(*arguments))
    except pynvml.NVMLError:
        return None

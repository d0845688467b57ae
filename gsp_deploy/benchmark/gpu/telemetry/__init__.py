"""Read clocks, power and temperature of a GPU: by NVML, or by tegrastats on a Jetson."""

from __future__ import annotations

import shutil
from contextlib import AbstractContextManager

from gsp_deploy.base.platforms import package_line
from gsp_deploy.benchmark.gpu.telemetry.sample import Sample, Source, summarise
from gsp_deploy.device import DeviceProperties
from gsp_deploy.errors import MissingCapabilityError

__all__ = ["Sample", "Source", "open_telemetry", "summarise"]


def open_telemetry(properties: DeviceProperties) -> AbstractContextManager[Source]:
    """Return a source of readings for a device: tegrastats on a Jetson, NVML otherwise.

    Raises:
        MissingCapabilityError: neither is installed.
    """
    if properties.integrated and (program := shutil.which("tegrastats")):
        from gsp_deploy.benchmark.gpu.telemetry.tegrastats import Tegrastats

        return Tegrastats(program)
    try:
        from gsp_deploy.benchmark.gpu.telemetry.nvml import Nvml
    except ModuleNotFoundError as error:
        raise MissingCapabilityError(
            f"clocks, power and temperature need NVML: {package_line('nvidia-ml-py')}"
        ) from error
    return Nvml(properties.pci_bus_id)

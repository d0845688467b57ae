"""Clocks, power and temperature, as NVML or tegrastats reports them."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from gsp_deploy.benchmark.gpu.telemetry import open_telemetry
from gsp_deploy.device import open_device
from gsp_deploy.errors import MissingCapabilityError
from gsp_deploy.proof.document import Finding

if TYPE_CHECKING:
    from gsp_deploy.proof.run import ProofSettings


def telemetry(settings: ProofSettings, folder: Path) -> Finding:
    """Read everything once.

    Raises:
        MissingCapabilityError: there is no device, or no NVML.
    """
    if settings.is_rehearsal:
        raise MissingCapabilityError("a rehearsal on the CPU has no clocks to read")
    with closing(open_device()) as device, open_telemetry(device.properties()) as source:
        now = source.read(0.0)
    rows = [{"what": name, "is": str(value)} for name, value in vars(now).items()]
    return Finding("", "passed", f"{now.gpu_mhz} MHz, {now.watts} W, {now.celsius} C", table=rows)

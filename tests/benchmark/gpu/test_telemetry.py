"""Lines of tegrastats as boards print them, and the summary of many readings."""

from __future__ import annotations

import pytest

from gsp_deploy.benchmark.gpu.telemetry.sample import Sample, summarise
from gsp_deploy.benchmark.gpu.telemetry.tegrastats import Tegrastats, parse_line

XAVIER_4 = (
    "RAM 14700/15692MB (lfb 3x2MB) SWAP 898/8192MB (cached 23MB) CPU [0%@1190,0%@1190] EMC_FREQ 0% "
    "GR3D_FREQ 0% AO@30C GPU@30.5C Tboard@31C Tdiode@32C AUX@30.5C CPU@31.5C thermal@30.8C "
    "PMIC@100C GPU 463/463 CPU 618/618 SOC 2936/2936 CV 0/0 VDDRQ 309/309 SYS5V 3306/3306"
)
ORIN_NANO_6 = (
    "11-14-2024 22:54:33 RAM 3052/7620MB (lfb 10x4MB) SWAP 23/3810MB (cached 0MB) CPU [3%@729,"
    "off,off,0%@729] EMC_FREQ 2%@2133 GR3D_FREQ 91%@[611] NVDEC off NVJPG off VIC off OFA off "
    "APE 200 cpu@49.906C soc2@48.75C soc0@49.968C gpu@50.218C tj@50.25C soc1@50.25C "
    "VDD_IN 5480mW/4939mW VDD_CPU_GPU_CV 481mW/485mW VDD_SOC 1433mW/1420mW"
)
ORIN_AGX_6 = (
    "RAM 3164/62780MB (lfb 1x2MB) CPU [1%@729,0%@729] EMC_FREQ 0%@2133 GR3D_FREQ 0%@1300 "
    "GPU@-256C CPU@47.3C tj@47.3C VDD_GPU_SOC 2401mW/2401mW VDD_CPU_CV 800mW/800mW "
    "VIN_SYS_5V0 3626mW/3525mW"
)
ORIN_AGX_7 = (
    "07-25-2026 09:08:28 RAM 20642/62817MB (lfb 1x2MB) CPU [23%@2201,10%@2201] EMC_FREQ 3%@3199 "
    "GR3D_FREQ 0%@[1300,1300] NVENC0 off NVDEC0 off APE 174 cpu@52.968C/52.968C"
)
THOR_7 = (
    "RAM 1/2MB EMC_FREQ 0%@4266 GR3D_FREQ @[1000,1001,1002] gpu@41.5C tj@42C VIN 30000mW/29000mW"
)


@pytest.mark.parametrize(
    ("line", "gpu", "memory", "watts", "celsius"),
    [
        (XAVIER_4, None, None, 0.463 + 0.618 + 2.936 + 0.309 + 3.306, 30.5),
        (ORIN_NANO_6, 611, 2133, 5.48, 50.218),
        (ORIN_AGX_6, 1300, 2133, 2.401 + 0.8 + 3.626, None),
        (ORIN_AGX_7, 1300, 3199, None, None),
        (THOR_7, 1000, 4266, 30.0, 41.5),
        ("nothing of the kind", None, None, None, None),
        ("", None, None, None, None),
    ],
)
def test_lines_of_tegrastats(line, gpu, memory, watts, celsius) -> None:
    found = parse_line(line, 1.5)
    assert (found.seconds, found.gpu_mhz, found.memory_mhz) == (1.5, gpu, memory)
    assert found.celsius == celsius
    assert found.watts == (None if watts is None else pytest.approx(watts))


def test_tegrastats_is_followed_and_ended(tmp_path) -> None:
    program = tmp_path / "tegrastats"
    program.write_text(f"#!/bin/sh\necho '{ORIN_NANO_6}'\nexec sleep 60\n")
    program.chmod(0o755)
    with Tegrastats(str(program)) as source:
        for _ in range(500):
            if source.read(2.0).watts is not None:
                break
            source._reader.join(0.01)
        assert source.read(2.0) == parse_line(ORIN_NANO_6, 2.0)
    assert source._process.returncode is not None


def test_energy_is_power_over_time_unless_the_device_counts_it() -> None:
    samples = [Sample(0, 100, None, 10.0, 40), Sample(2, 90, None, 20.0, 60, ("power cap",))]
    found = summarise("x", samples, None)
    assert (found.joules, found.watts) == (30, 15)
    assert (found.gpu_mhz, found.celsius) == ((90, 95, 100), (40, 60))
    assert found.throttling == {"power cap": 0.5}
    assert summarise("x", samples, 33.0).joules == 33
    nothing = summarise("x", [Sample(0), Sample(1)], None)
    assert (nothing.joules, nothing.watts, nothing.gpu_mhz, nothing.celsius) == (None,) * 4

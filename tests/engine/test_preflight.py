"""The check of a machine before a build, on recorded files of real machines."""

from __future__ import annotations

from pathlib import Path

import pytest

from gsp_deploy.engine.preflight import Preflight, read_preflight

MEMINFO = "MemTotal:  7620000 kB\nMemFree:  300000 kB\nMemAvailable: {} kB\nSwapFree: {} kB\n"
# /etc/nvpmodel.conf of an Orin Nano Super, shortened: the fastest mode is not the highest number.
NVPMODEL = """
< PARAM TYPE=FILE NAME=CPU_ONLINE >
CORE_0 /sys/devices/system/cpu/cpu0/online
< POWER_MODEL ID=0 NAME=15W >
CPU_ONLINE CORE_0 1
GPU MAX_FREQ 612000000
< POWER_MODEL ID=1 NAME=25W >
GPU MAX_FREQ 918000000
< POWER_MODEL ID=2 NAME=MAXN_SUPER >
GPU MAX_FREQ -1
< POWER_MODEL ID=3 NAME=7W >
GPU MAX_FREQ 408000000
# mandatory section to configure the default power mode
< PM_CONFIG DEFAULT=1 >
"""


def write(root: Path, name: str, text: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture
def orin(tmp_path: Path) -> Path:
    """An Orin Nano at rest."""
    write(tmp_path, "proc/meminfo", MEMINFO.format(5_000_000, 3_800_000))
    write(tmp_path, "etc/nv_tegra_release", "# R36 (release), REVISION: 4.3")
    write(tmp_path, "proc/device-tree/model", "NVIDIA Jetson Orin Nano Developer Kit\0")
    write(tmp_path, "etc/nvpmodel.conf", NVPMODEL)
    write(tmp_path, "var/lib/nvpmodel/status", "pmode:0002 fmode:quiet\n")
    for core in (0, 1):
        folder = f"sys/devices/system/cpu/cpu{core}/cpufreq"
        write(tmp_path, f"{folder}/scaling_min_freq", "729600\n")
        write(tmp_path, f"{folder}/scaling_max_freq", "1728000\n")
    write(tmp_path, "sys/class/devfreq/17000000.gpu/min_freq", "306000000\n")
    write(tmp_path, "sys/class/devfreq/17000000.gpu/max_freq", "1020000000\n")
    for index, (kind, degrees) in enumerate(
        {"cpu-thermal": 51031, "gpu-thermal": 53468, "cv0-thermal": -256000}.items()
    ):
        write(tmp_path, f"sys/class/thermal/thermal_zone{index}/type", f"{kind}\n")
        write(tmp_path, f"sys/class/thermal/thermal_zone{index}/temp", f"{degrees}\n")
    return tmp_path


def test_a_jetson_reports_everything(orin: Path) -> None:
    found = read_preflight(orin)
    assert found == Preflight(
        available_bytes=5_000_000 * 1024,
        total_bytes=7_620_000 * 1024,
        swap_free_bytes=3_800_000 * 1024,
        board="NVIDIA Jetson Orin Nano Developer Kit",
        power_mode="MAXN_SUPER",
        power_modes=("15W", "25W", "MAXN_SUPER", "7W"),
        locked_clocks=False,
        celsius={"cpu-thermal": 51.031, "gpu-thermal": 53.468},
    )
    assert list(found.lines()) == [
        "memory: 4.8 GiB of 7.3 GiB free, 3.6 GiB of swap",
        "board: NVIDIA Jetson Orin Nano Developer Kit",
        "power mode: MAXN_SUPER of 15W, 25W, MAXN_SUPER, 7W",
        "clocks: following the load",
        "heat: 53 °C at gpu-thermal",
    ]
    assert [line.split(":")[0] for line in found.warnings()] == [
        "clocks follow the load, so that timings scatter"
    ]


def test_without_a_chosen_mode_the_default_is_on(orin: Path) -> None:
    (orin / "var/lib/nvpmodel/status").unlink()
    found = read_preflight(orin)
    assert found.power_mode == "25W"
    assert any("the power mode is 25W" in line for line in found.warnings())


def test_locked_clocks_are_the_same_below_and_above(orin: Path) -> None:
    for path in orin.rglob("*min_freq"):
        path.write_text(path.with_name(path.name.replace("min", "max")).read_text())
    found = read_preflight(orin)
    assert found.locked_clocks is True
    assert list(found.warnings()) == []


def test_a_hot_and_full_board_is_warned_of(orin: Path) -> None:
    write(orin, "proc/meminfo", MEMINFO.format(900_000, 0))
    write(orin, "sys/class/thermal/thermal_zone1/temp", "91500\n")
    warnings = list(read_preflight(orin).warnings())
    assert warnings[0].startswith("only 878 MiB of memory are free")
    assert "--low-memory" in warnings[0]
    assert warnings[-1] == "the board is at 92 °C and may throttle: let it cool"


def test_another_machine_reports_its_memory_only(orin: Path) -> None:
    (orin / "etc/nv_tegra_release").unlink()
    (orin / "etc/nvpmodel.conf").unlink()
    found = read_preflight(orin)
    assert found.board is None
    assert found.power_modes == ()
    assert len(list(found.lines())) == 1


@pytest.mark.parametrize("name", ["etc/nvpmodel.conf", "proc/meminfo", "var/lib/nvpmodel/status"])
@pytest.mark.parametrize("text", ["", "\0\xff", "< POWER_MODEL ID= NAME= >", "pmode:99"])
def test_files_that_say_nothing_leave_it_unknown(orin: Path, name: str, text: str) -> None:
    write(orin, name, text)
    found = read_preflight(orin)
    assert found.board is not None
    list(found.lines())
    list(found.warnings())


def test_a_root_without_files(tmp_path: Path) -> None:
    assert read_preflight(tmp_path) == Preflight(None, None, None)
    assert list(Preflight(None, None, None).lines()) == []


def test_this_machine_is_read() -> None:
    found = read_preflight()
    assert found.total_bytes is None or found.total_bytes > 0

"""Check a machine before a build: free memory, and a Jetson's power mode, clocks and heat.

All values come from plain files below `root`, without privileges or NVIDIA's tools.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

GIB = 1 << 30
MIB = 1 << 20
# With less memory, TensorRT's builder and its libraries barely fit beside the system.
SCARCE = 2 * GIB
# At this temperature, boards begin to throttle.
HOT_CELSIUS = 85.0

_MODE = re.compile(r"^\s*<\s*POWER_MODEL\s+ID=(\d+)\s+NAME=(\S+)\s*>", re.MULTILINE)
_DEFAULT = re.compile(r"^\s*<\s*PM_CONFIG\s+DEFAULT=(\d+)\s*>", re.MULTILINE)
_CURRENT = re.compile(r"pmode:0*(\d+)")
_BEST = "MAXN"


@dataclass(frozen=True)
class Preflight:
    """The state of a machine before a build.

    Attributes:
        available_bytes, total_bytes, swap_free_bytes: of host memory, which a Jetson's GPU shares;
            None if the system does not report it.
        board: name of the Jetson; None on any other machine.
        power_mode: the active mode; None if it is unknown.
        power_modes: all modes of the board.
        locked_clocks: whether the lowest and highest frequency are equal, as after jetson_clocks.
        celsius: temperatures by sensor.
    """

    available_bytes: int | None
    total_bytes: int | None
    swap_free_bytes: int | None
    board: str | None = None
    power_mode: str | None = None
    power_modes: tuple[str, ...] = ()
    locked_clocks: bool | None = None
    celsius: Mapping[str, float] = field(default_factory=dict)

    def lines(self) -> Iterator[str]:
        """Yield the state as lines of text."""
        if self.available_bytes is not None and self.total_bytes is not None:
            swap = "" if not self.swap_free_bytes else f", {_gib(self.swap_free_bytes)} of swap"
            yield f"memory: {_gib(self.available_bytes)} of {_gib(self.total_bytes)} free{swap}"
        if self.board is not None:
            yield f"board: {self.board}"
        if self.power_modes:
            yield f"power mode: {self.power_mode or 'unknown'} of {', '.join(self.power_modes)}"
        if self.locked_clocks is not None:
            yield f"clocks: {'locked' if self.locked_clocks else 'following the load'}"
        if self.celsius:
            sensor, hottest = max(self.celsius.items(), key=lambda item: item[1])
            yield f"heat: {hottest:.0f} °C at {sensor}"

    def warnings(self) -> Iterator[str]:
        """Yield a line for each problem that can slow or stop a build, and how to fix it."""
        if self.available_bytes is not None and self.available_bytes < SCARCE:
            yield (
                f"only {_gib(self.available_bytes)} of memory are free: close other programs, add "
                "swap, or build with --low-memory"
            )
        best = next((mode for mode in self.power_modes if mode.startswith(_BEST)), None)
        if best is not None and self.power_mode not in (None, best):
            yield (
                f"the power mode is {self.power_mode}: kernels are timed as they run in it; build "
                f"in the mode that the engine will run in (sudo nvpmodel -m), {best} is the fastest"
            )
        if self.locked_clocks is False:
            yield "clocks follow the load, so that timings scatter: sudo jetson_clocks locks them"
        if any(degrees >= HOT_CELSIUS for degrees in self.celsius.values()):
            hottest = max(self.celsius.values())
            yield f"the board is at {hottest:.0f} °C and may throttle: let it cool"


def read_preflight(root: Path = Path("/")) -> Preflight:
    """Read the machine's state below `root`; values that it does not report stay unknown."""
    memory = _memory(root)
    found = Preflight(
        available_bytes=memory.get("MemAvailable"),
        total_bytes=memory.get("MemTotal"),
        swap_free_bytes=memory.get("SwapFree"),
        board=_board(root),
    )
    if found.board is None:
        return found
    modes, current = _power(root)
    return replace(
        found,
        power_mode=current,
        power_modes=modes,
        locked_clocks=_locked_clocks(root),
        celsius=_heat(root),
    )


def _memory(root: Path) -> dict[str, int]:
    pairs = re.findall(r"^(\w+):\s+(\d+) kB", _read(root / "proc/meminfo"), re.MULTILINE)
    return {name: int(kilobytes) * 1024 for name, kilobytes in pairs}


def _board(root: Path) -> str | None:
    if not (root / "etc/nv_tegra_release").exists() and not (root / "etc/nvpmodel.conf").exists():
        return None
    return _read(root / "proc/device-tree/model").strip("\0\n ") or "a Jetson"


def _power(root: Path) -> tuple[tuple[str, ...], str | None]:
    """Return the names of all modes, and of the active one: the last chosen or the default."""
    text = _read(root / "etc/nvpmodel.conf")
    modes = {int(number): name for number, name in _MODE.findall(text)}
    chosen = _CURRENT.search(_read(root / "var/lib/nvpmodel/status")) or _DEFAULT.search(text)
    current = None if chosen is None else modes.get(int(chosen[1]))
    return tuple(modes[number] for number in sorted(modes)), current


def _locked_clocks(root: Path) -> bool | None:
    cpus = sorted(root.glob("sys/devices/system/cpu/cpu[0-9]*/cpufreq"))
    gpus = [
        folder
        for folder in root.glob("sys/class/devfreq/*")
        if re.search(r"gpu|gv11b", folder.name)
    ]
    pairs = [_pair(folder, "scaling_min_freq", "scaling_max_freq") for folder in cpus]
    pairs += [_pair(folder, "min_freq", "max_freq") for folder in gpus]
    known = [pair for pair in pairs if all(pair)]
    return all(least == greatest for least, greatest in known) if known else None


def _pair(folder: Path, least: str, greatest: str) -> tuple[str, str]:
    return _read(folder / least).strip(), _read(folder / greatest).strip()


def _heat(root: Path) -> dict[str, float]:
    found = {}
    for zone in sorted(root.glob("sys/class/thermal/thermal_zone*")):
        degrees = _read(zone / "temp").strip()
        if re.fullmatch(r"-?\d+", degrees) and int(degrees) > 0:  # a sensor that is off says less
            found[_read(zone / "type").strip() or zone.name] = int(degrees) / 1000
    return found


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _gib(size: int) -> str:
    return f"{size / GIB:.1f} GiB" if size >= GIB else f"{size // MIB} MiB"

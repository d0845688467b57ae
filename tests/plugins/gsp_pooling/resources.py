"""What the kernels need on every target, by ptxas' own report.

`python tests/plugins/gsp_pooling/resources.py` compiles all targets and writes the budget anew:
`plugins/gsp_pooling/resources.json`. Do that when a kernel is meant to need more, and say why.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

KERNEL = Path(__file__).parents[3] / "plugins" / "gsp_pooling"
BUDGET = KERNEL / "resources.json"
TARGETS = ("75", "80", "86", "87", "89", "90", "100", "110", "120")
NVCC = shutil.which("nvcc")

_NAMES = ("pool_images", "log_mass_of_images", "pool_slices", "attributes_of_images",
          "write_rows")  # fmt: skip
_TYPES = {"__nv_bfloat16": "bfloat16", "__half": "float16"}
_REPORT = re.compile(
    r"Compiling entry function '(?P<name>\w+)'"
    r".*?(?P<stack>\d+) bytes stack frame, (?P<spills>\d+) bytes spill stores"
    r".*?Used (?P<registers>\d+) registers",
    re.DOTALL,
)
_STATIC_SHARED = re.compile(r"(\d+) bytes smem")


@dataclass(frozen=True)
class Resources:
    """Of one kernel; `shared` is static, what a launch asks for comes on top."""

    registers: int
    spills: int
    shared: int


def compiler_release() -> str:
    """Return nvcc's release, as 13.0: another one allocates registers otherwise."""
    told = subprocess.run([NVCC or "nvcc", "--version"], capture_output=True, text=True, check=True)
    found = re.search(r"release (\d+\.\d+)", told.stdout)
    return found[1] if found else "unknown"


def parse_report(text: str) -> dict[str, Resources]:
    """Read `ptxas -v`: resources by kernel, type and layout."""
    found = {}
    for entry in re.split(r"(?=Compiling entry function)", text):
        if match := _REPORT.search(entry):
            shared = _STATIC_SHARED.search(entry)
            found[kernel_name(match["name"])] = Resources(
                int(match["registers"]), int(match["spills"]), int(shared[1]) if shared else 0
            )
    return found


def compile_target(target: str, folder: Path) -> dict[str, Resources]:
    """Compile a cubin for `sm_<target>` and return what its kernels need."""
    assert NVCC is not None
    done = subprocess.run(
        [NVCC, "-std=c++17", "-O3", f"-arch=sm_{target}", "-Xptxas", "-v", "-cubin",
         str(KERNEL / "gsp_pooling.cu"), "-o", str(cubin_of(target, folder))],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise AssertionError(f"sm_{target} does not compile:\n{done.stderr[-2000:]}")
    return parse_report(done.stderr)


def cubin_of(target: str, folder: Path) -> Path:
    """Return where `compile_target` leaves the machine code."""
    return folder / f"sm_{target}.cubin"


def compile_all(folder: Path, targets: Iterable[str] = TARGETS) -> dict[str, dict[str, Resources]]:
    """Compile every target into a folder, two at a time."""
    with ThreadPoolExecutor(2) as pool:
        targets = list(targets)
        reports = pool.map(lambda target: compile_target(target, folder), targets)
        return dict(zip(targets, reports, strict=True))


def excesses(budget: Mapping[str, Any], found: Mapping[str, Mapping[str, Resources]]) -> list[str]:
    """Return what goes beyond the budget, one line each: registers, spills, static shared memory.

    The budget has `registers` and `spills` by target and kernel. What it does not name must be 0,
    and static shared memory too.
    """
    lines = []
    for target, kernels in found.items():
        for kernel, needs in kernels.items():
            registers = budget["registers"].get(target, {}).get(kernel, 0)
            spills = budget["spills"].get(target, {}).get(kernel, 0)
            for what, value, most in (
                ("registers", needs.registers, registers),
                ("bytes of spills", needs.spills, spills),
                ("bytes of static shared memory", needs.shared, 0),
            ):
                if value > most:
                    lines.append(f"sm_{target} {kernel}: {value} {what}, budget {most}")
    return lines


def read_budget() -> dict[str, Any]:
    return dict(json.loads(BUDGET.read_text()))


def kernel_name(mangled: str) -> str:
    """Return a kernel's name, type and layout."""
    name = next(name for name in _NAMES if name in mangled)
    if name == "write_rows":
        return name
    kind = next((plain for raw, plain in _TYPES.items() if raw in mangled), "float32")
    return f"{name} {kind} channels-{'last' if 'LayoutE1' in mangled else 'first'}"


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        found = compile_all(Path(folder))
    registers = {
        target: {kernel: needs.registers for kernel, needs in sorted(kernels.items())}
        for target, kernels in found.items()
    }
    spills = {
        target: {kernel: needs.spills for kernel, needs in sorted(kernels.items()) if needs.spills}
        for target, kernels in found.items()
    }
    spills = {target: kernels for target, kernels in spills.items() if kernels}
    budget = {"nvcc": compiler_release(), "spills": spills, "registers": registers}
    BUDGET.write_text(json.dumps({**read_budget(), **budget}, indent=2) + "\n")
    print(f"spills: {spills}" if spills else "no spills")


if __name__ == "__main__":
    main()

"""Compiling the kernel's own source for the CPU: plain, without matrix units, under sanitizers."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
KERNEL = ROOT / "plugins" / "gsp_pooling"
EMULATION = Path(__file__).parent / "emulation"
PROGRAM = "pool_cases"  # what `build` makes in its folder
COMPILER = shutil.which("g++")

needs_compiler = pytest.mark.skipif(COMPILER is None, reason="needs g++ with C++20")


@dataclass(frozen=True)
class Fault:
    """A mistake to be planted in a copy of the source: `text` in `file` becomes `mistake`."""

    file: str
    text: str
    mistake: str


@dataclass(frozen=True)
class Variant:
    """How to compile: flags for all of it, and flags for the emulator alone."""

    flags: Sequence[str] = ()
    emulator_flags: Sequence[str] = ()


PLAIN = Variant(("-O2",))
WITHOUT_MATRIX_UNITS = Variant(("-O2", "-DGSP_NO_MATRIX_UNITS"))
THREADS = Variant(("-O1", "-fsanitize=thread"), ("-O1", "-DEMULATION_TSAN"))
ADDRESSES = Variant(
    ("-O1", "-fsanitize=address,alignment", "-fno-sanitize-recover=alignment"),
    ("-O1", "-fsanitize=address", "-DEMULATION_ASAN"),
)


# Half a compilation is saved where one type stands for all.
ONLY_FLOAT16 = (
    Fault("gsp_pooling.cu", "return launch_layout<float>(p.layout, plan, args, p.batch, stream);",
          "return cudaErrorNotSupported;"),
    Fault("gsp_pooling.cu",
          "return launch_layout<__nv_bfloat16>(p.layout, plan, args, p.batch, stream);",
          "return cudaErrorNotSupported;"),
)  # fmt: skip


def build(folder: Path, variant: Variant = PLAIN, faults: Sequence[Fault] = ()) -> Path:
    """Compile the launcher, the kernels and the case runner; return the program."""
    kernel = folder / "gsp_pooling"
    shutil.copytree(KERNEL, kernel, ignore=shutil.ignore_patterns("lab"))
    for fault in faults:
        _plant(kernel, fault)
    emulator_flags = variant.emulator_flags or variant.flags
    objects = [
        _compile(folder, EMULATION / "emulator.cpp", emulator_flags),
        _compile(folder, kernel / "gsp_pooling.cu", variant.flags),
        _compile(folder, kernel / "gsp_pooling_params.cpp", variant.flags),
        _compile(folder, EMULATION / "pool_cases.cpp", variant.flags),
    ]
    program = folder / PROGRAM
    _run([*variant.flags, *map(str, objects), "-o", str(program)])
    return program


def build_lab(folder: Path) -> Path:
    """Compile the lab against the emulation; return the program."""
    kernel = folder / "gsp_pooling"
    shutil.copytree(KERNEL, kernel, ignore=shutil.ignore_patterns("build"))
    sources = [EMULATION / "emulator.cpp", kernel / "gsp_pooling.cu"]
    sources.append(kernel / "gsp_pooling_params.cpp")
    sources += sorted([*(kernel / "lab").glob("*.cu"), *(kernel / "lab").glob("*.cpp")])
    objects = [_compile(folder, source, ("-O1",)) for source in sources]
    program = folder / "lab"
    _run([*map(str, objects), "-o", str(program)])
    return program


def _plant(kernel: Path, fault: Fault) -> None:
    path = kernel / fault.file
    source = path.read_text()
    assert source.count(fault.text) == 1, f"{fault.file} holds {fault.text!r} not once"
    path.write_text(source.replace(fault.text, fault.mistake))


def _compile(folder: Path, source: Path, flags: Sequence[str]) -> Path:
    target = folder / f"{source.stem}.{source.suffix[1:]}.o"
    _run(
        [
            *("-std=c++20", "-DGSP_EMULATION", *flags),
            *(f"-I{EMULATION / 'include'}", f"-I{folder / 'gsp_pooling'}"),
            *("-x", "c++", "-c", str(source), "-o", str(target)),
        ]
    )
    return target


def _run(arguments: Sequence[str]) -> None:
    assert COMPILER is not None
    done = subprocess.run([COMPILER, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

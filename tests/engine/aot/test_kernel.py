"""The Triton kernel: in Triton's interpreter against float64, and compiled for every target."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

pytest.importorskip("triton")

from gsp_deploy.engine.aot.compiling import PoolingSizes, compile_pooling
from gsp_deploy.errors import UsageError
from gsp_deploy.pooling_node import PoolingAttributes

HERE = Path(__file__).parent
TARGETS = (75, 80, 86, 87, 89, 90, 100, 110, 120)
NARROW = {"fp32": 1e-6, "fp16": 2e-6, "bf16": 2e-6}  # inputs are exact in float64; compute is not


def test_the_kernel_equals_float64_in_the_interpreter() -> None:
    ran = subprocess.run(
        [sys.executable, str(HERE / "kernel_cases.py")],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    (line,) = (line for line in ran.stdout.splitlines() if line.startswith("errors:"))
    found = json.loads(line.removeprefix("errors:"))
    assert len(found) == 8
    assert max(max(case.values()) for case in found) < max(NARROW.values())


def compiled(capability: int, **settings: object):
    asked = PoolingAttributes(
        **{
            "pooling": "gap", "solver": "newton", "iterations": 2, "transport_ratio": 0.3,
            "entropy_weight": 5.0, "normalize": 1, **settings,
        }
    )  # fmt: skip
    return compile_pooling(asked, PoolingSizes(64, 16, 64, 49, "fp16"), capability)


def parameters(ptx: str) -> list[str]:
    head = ptx[ptx.index(".entry") :].partition(")")[0]
    return re.findall(r"\.param \.(u\d\d)", head)


@pytest.mark.parametrize("capability", TARGETS)
def test_it_compiles_ahead_of_time_for_every_target(capability) -> None:
    """To PTX and, as Triton does it, on to machine code."""
    kernel = compiled(capability)
    assert re.search(rf"\.target sm_{capability}a?\b", kernel.ptx)
    assert re.search(rf"\.entry {kernel.name}\(", kernel.ptx)
    assert kernel.threads == 128
    assert kernel.shared_bytes <= 48 << 10  # what every device gives without asking
    assert parameters(kernel.ptx) == ["u64", "u64", "u32", "u64", "u64"]


def test_arguments_are_inputs_then_the_scalar_then_outputs(tmp_path) -> None:
    kernel = compiled(86, pooling="gem", normalize=0, output_attributes=1)
    assert parameters(kernel.ptx) == [*["u64"] * 3, "u32", *["u64"] * 3]
    ptxas = Path(find_spec("triton").origin).parent / "backends" / "nvidia" / "bin" / "ptxas"
    source = tmp_path / "kernel.ptx"
    source.write_text(kernel.ptx)
    ran = subprocess.run(
        [str(ptxas), "-arch=sm_86", "-v", str(source), "-o", str(tmp_path / "kernel.cubin")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert "0 bytes spill stores, 0 bytes spill loads" in ran.stderr


def test_what_the_kernel_does_not_do_is_refused() -> None:
    with pytest.raises(UsageError, match="--io-precision fp32"):
        compiled(86, output_type="fp16")
    with pytest.raises(UsageError, match="1 to 4096 locations, got 5000"):
        PoolingSizes(64, 16, 64, 5000)
    with pytest.raises(UsageError, match="fp32, fp16, bf16, got int8"):
        PoolingSizes(64, 16, 64, 49, "int8")

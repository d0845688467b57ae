"""Which loads wait together, and which are on their way during the product: from the machine code.

The next slice's loads are issued before the product of this one, so that they are on their way
while it runs. That holds only if nothing reads what they load until the product is under way. The
operands of a step of the product, and the vectors that are pooled, are loaded some at a time.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sysconfig
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .resources import kernel_name

_BYTES = 16  # of an instruction

# Triton's wheel brings the tool along; the CUDA wheels do not.
_IN_TRITON = Path(sysconfig.get_path("purelib"), "triton/backends/nvidia/bin/cuobjdump")
CUOBJDUMP = shutil.which("cuobjdump") or shutil.which(_IN_TRITON)

# Vectors of 16 bytes that a thread loads for a slice: four of prototypes, two of embeddings.
VECTORS_OF_A_SLICE = 6
_FUNCTION = re.compile(r"Function : (\w+)")
_INSTRUCTION = re.compile(r"\s+/\*([0-9a-f]{4,})\*/\s+(@!?U?P\w+ )?([^;]*?)\s*;")
_WIDE_LOAD = re.compile(r"LDG\.E\.128\S* R(\d+),")
_MATRIX_LOAD = re.compile(r"LDSM\S* R(\d+),")
_PRODUCT = re.compile("HMMA")
_BRANCH = re.compile(r"BRA\S* (.*, )?`?\(?(?:\S*?)0x([0-9a-f]+)")


@dataclass(frozen=True)
class Instruction:
    """One instruction; `following` are the addresses of those that can come next."""

    text: str
    following: tuple[int, ...]

    @property
    def reads(self) -> set[str]:
        registers = re.findall(r"\bR\d+\b", self.text)
        return set(registers if self.text.startswith(("ST", "R2UR")) else registers[1:])


def disassemble(cubin: Path) -> dict[str, dict[int, Instruction]]:
    """Return the instructions of each kernel by address."""
    assert CUOBJDUMP is not None
    done = subprocess.run([CUOBJDUMP, "-sass", cubin], capture_output=True, text=True, check=True)
    return parse_listing(done.stdout)


def parse_listing(text: str) -> dict[str, dict[int, Instruction]]:
    found: dict[str, dict[int, Instruction]] = {}
    instructions: dict[int, Instruction] = {}
    for line in text.splitlines():
        if function := _FUNCTION.search(line):
            instructions = found.setdefault(kernel_name(function[1]), {})
        elif written := _INSTRUCTION.match(line):
            address = int(written[1], 16)
            instructions[address] = _instruction(address, written[2] is not None, written[3])
    return found


def loads_under_way(instructions: Mapping[int, Instruction]) -> int:
    """Count the loads of 16 bytes that some way leads from to a product without reading them.

    Such a way is the one of aligned rows: others read what they load element by element.
    """
    return _count_unread(_WIDE_LOAD, _PRODUCT, instructions)


def operands_together(instructions: Mapping[int, Instruction]) -> int:
    """Count the loads of a product's operands after which another comes before they are read."""
    return _count_unread(_MATRIX_LOAD, _MATRIX_LOAD, instructions)


def pooled_together(instructions: Mapping[int, Instruction]) -> int:
    """The same of the loads of 16 bytes that are pooled: those behind the last product."""
    last = max(place for place, one in instructions.items() if _PRODUCT.match(one.text))
    behind = {place: one for place, one in instructions.items() if place > last}
    return _count_unread(_WIDE_LOAD, _WIDE_LOAD, behind)


def _count_unread(
    load: re.Pattern[str], goal: re.Pattern[str], instructions: Mapping[int, Instruction]
) -> int:
    return sum(
        _reaches_unread(int(found[1]), goal, one.following, instructions)
        for one in instructions.values()
        if (found := load.match(one.text))
    )


def _instruction(address: int, is_predicated: bool, text: str) -> Instruction:
    following: tuple[int, ...] = (address + _BYTES,)
    if branch := _BRANCH.match(text):
        target = int(branch[2], 16)
        falls_through = is_predicated or branch[1] is not None
        following = (*following, target) if falls_through else (target,)
    elif text.startswith(("EXIT", "RET", "BRX")) and not is_predicated:
        following = ()
    return Instruction(text, following)


def _reaches_unread(
    register: int,
    goal: re.Pattern[str],
    start: Sequence[int],
    instructions: Mapping[int, Instruction],
) -> bool:
    loaded = {f"R{register + word}" for word in range(4)}
    waiting, seen = list(start), set(start)
    while waiting:
        one = instructions.get(waiting.pop())
        if one is None or loaded & one.reads:
            continue
        if goal.match(one.text):
            return True
        waiting.extend(place for place in one.following if place not in seen)
        seen.update(one.following)
    return False

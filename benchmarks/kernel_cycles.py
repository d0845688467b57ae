"""Estimate what a slice of the cost product costs a warp, from the machine code, without a GPU.

    nvcc -std=c++17 -O3 -arch=sm_90 -cubin plugins/gsp_pooling/gsp_pooling.cu -o k.cubin
    cuobjdump -sass k.cubin > k.sass
    python benchmarks/kernel_cycles.py k.sass      # pool_images, float16, channels last

It follows the loop over slices on the way of aligned rows, and adds the stall counts that the
compiler wrote beside each instruction. Where it waits for a load, it takes an assumed latency.
Other warps, conflicts between banks and the caches are not in it.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path

KERNEL = ("pool_images", "6__half", "LayoutE1")
STEPS = 4  # of 16 channels in a slice of 64
SLICES = 6  # until each costs as much as the one before
LATENCIES = {"LDSM": 33, "LDS": 29, "S2": 25, "LDC": 30, "ULDC": 30, "SHFL": 24, "MUFU": 20}
BARRIER, READ, OTHER = 35, 12, 20
_FIRST = re.compile(r"\s+/\*([0-9a-f]{4,})\*/\s+(.*?)\s*;\s+/\* 0x")
_SECOND = re.compile(r"\s+/\* (0x[0-9a-f]{16}) \*/")
_BRANCH = re.compile(r"BRA\b.*?0x([0-9a-f]+)")


@dataclass(frozen=True)
class Instruction:
    """One instruction with the compiler's stalls, and the barriers that it sets and waits for."""

    address: int
    text: str
    stall: int
    sets_when_written: int
    sets_when_read: int
    waits: int

    @property
    def target(self) -> int | None:
        found = _BRANCH.search(self.text)
        return int(found[1], 16) if found else None

    def latency(self, load: int) -> int:
        name = re.sub(r"^@!?U?P\d+ ", "", self.text)
        if name.startswith("LDG"):
            return load
        return next((cycles for word, cycles in LATENCIES.items() if name.startswith(word)), OTHER)


def parse(listing: str) -> list[Instruction]:
    """Return the instructions of the kernel, with the control bits of their second word."""
    for part in re.split(r"(?=Function : )", listing):
        if all(word in part[:200] for word in KERNEL):
            break
    else:
        sys.exit("kernel_cycles: expected pool_images for float16, channels last, in the listing")
    found, first = [], None
    for line in part.splitlines():
        if match := _FIRST.match(line):
            first = match
        elif first and (match := _SECOND.match(line)):
            bits = int(match[1], 16) >> 41
            fields = (bits & 15, bits >> 5 & 7, bits >> 8 & 7, bits >> 11 & 63)
            found.append(Instruction(int(first[1], 16), first[2], *fields))
            first = None
    return found


def loop_of(code: list[Instruction], places: dict[int, int]) -> tuple[int, int]:
    """Return the first and the last place of the loop that loads, stages and multiplies a slice."""
    for last, one in enumerate(code):
        if one.target is not None and one.target <= one.address:
            first = places[one.target]
            words = " ".join(inner.text for inner in code[first : last + 1])
            if all(word in words for word in ("LDG.E.128", "STS", "HMMA")):
                return first, last
    sys.exit("kernel_cycles: expected a loop with loads, stores and products")


def cycles_of_slice(code: list[Instruction], load: int) -> int:
    """Return the cycles of one slice when a load from memory takes `load` cycles."""
    places = {one.address: place for place, one in enumerate(code)}
    first, last = loop_of(code, places)
    place, now, ready, ends, steps = first, 0, [0] * 8, [], 0
    while len(ends) < SLICES:
        one = code[place]
        now = max([now, *(ready[bit] for bit in range(6) if one.waits >> bit & 1)])
        if one.sets_when_written < 6:
            done = now + one.latency(load)
            ready[one.sets_when_written] = max(ready[one.sets_when_written], done)
        if one.sets_when_read < 6:
            ready[one.sets_when_read] = max(ready[one.sets_when_read], now + READ)
        now += max(1, one.stall) + (BARRIER if one.text.startswith("BAR.SYNC") else 0)
        goal = one.target
        if place == last:
            ends.append(now)
            place = first
        elif goal is not None and goal < one.address:
            steps = (steps + 1) % STEPS
            place = places[goal] if steps else place + 1
        elif goal is not None and (
            not one.text.startswith("@") or "LDG.E.128" in code[places[goal]].text
        ):
            place = places[goal]
        else:
            place += 1
    return ends[-1] - ends[-2]


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit("usage: kernel_cycles.py LISTING, as cuobjdump -sass prints it")
    code = parse(Path(sys.argv[1]).read_text())
    for load in (0, 270, 700):
        cycles = cycles_of_slice(code, load)
        print(f"loads of {load} cycles: {cycles} a slice, {8 * cycles} for D = 512")


if __name__ == "__main__":
    main()

"""Where the time of an engine goes: TensorRT's layers, told as PyTorch modules and solver steps.

TensorRT names a layer after the ONNX nodes that it was made of; several nodes fuse into one layer
and some layers, reformatting for instance, have no node at all. A layer's time is given to the
module of its nodes where they agree, to all of them together where they do not, and what belongs
to no node is shown as such.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gsp_deploy.engine.api import TensorRT
from gsp_deploy.runtime import EmbeddingSession

UNATTRIBUTED = "unattributed"
_STEP = re.compile(r"^gsp/(?P<solver>newton|fixed_point|certified)_(?P<step>\d+)(?:/|$)")
_PART = re.compile(r"^gsp/(?P<part>[^/]+)")
# What may stand before and after a node's name in a layer's: it must not be cut out of a longer.
_WORD = r"[\w./]"


@dataclass(frozen=True)
class LayerTime:
    """One layer of an engine.

    Attributes:
        layer: TensorRT's name of it.
        part: where it belongs: a PyTorch module, `head: newton, step 3`, or `unattributed`.
        milliseconds: median over runs.
    """

    layer: str
    part: str
    milliseconds: float


@dataclass(frozen=True)
class LayerProfile:
    """All layers of an engine at one batch size.

    Attributes:
        layers: in the order that they run in.
        runs: how many the medians are of.
    """

    layers: tuple[LayerTime, ...]
    runs: int

    @property
    def total(self) -> float:
        """Milliseconds of all layers; more than a run takes, as profiling puts waits between."""
        return sum(layer.milliseconds for layer in self.layers)

    def parts(self) -> dict[str, float]:
        """Return milliseconds by part, the greatest first, what is unattributed last."""
        times: dict[str, float] = defaultdict(float)
        for layer in self.layers:
            times[layer.part] += layer.milliseconds
        return dict(sorted(times.items(), key=lambda item: (item[0] == UNATTRIBUTED, -item[1])))

    @property
    def head_share(self) -> float:
        """Share of the time that is surely the pooling head's."""
        head = sum(ms for part, ms in self.parts().items() if part.startswith("head"))
        return head / self.total if self.total else 0.0


class LayerMap:
    """From the name of a layer to the part of the model.

    Built from the modules of the ONNX nodes, by name, as `modules_of` gives them.
    """

    def __init__(self, modules: Mapping[str, str]) -> None:
        self._parts = {name: _part(name, module) for name, module in modules.items() if name}
        # Longest first, so that of two names that fit the whole one is found.
        names = sorted(self._parts, key=len, reverse=True)
        # Last, what TensorRT itself makes for the head's nodes: their constants, `gsp/square_0`.
        found = "|".join([*(re.escape(name) for name in names), rf"gsp/{_WORD}+"])
        self._pattern = re.compile(rf"(?<!{_WORD})(?:{found})(?!{_WORD})")

    def part(self, layer: str) -> str:
        """Return the part of a layer; several joined by ` + ` where its nodes are of several."""
        nodes = self._pattern.findall(layer.replace("...", " ... "))  # from ... to
        parts = sorted({self._parts.get(node) or _part(node, "head") for node in nodes})
        if not parts:
            return UNATTRIBUTED
        if all(part.startswith("head") for part in parts) and len(parts) > 1:
            return _joined_head(parts)
        return " + ".join(parts)


def _joined_head(parts: Sequence[str]) -> str:
    """Name a layer that holds several steps of the head, as TensorRT fuses pointwise chains."""
    return f"head: {', '.join(part.removeprefix('head: ') for part in parts)}"


def _part(node: str, module: str) -> str:
    if step := _STEP.match(node):
        return f"head: {step['solver'].replace('_', '-')} step {step['step']}"
    if part := _PART.match(node):
        return f"head: {part['part']}"
    return module or node


def modules_of(onnx_file: Path) -> dict[str, str]:
    """Return the PyTorch module of every node of an exported model, by the node's name.

    Raises:
        ModelFileError: the file is missing or no ONNX file.
    """
    from gsp_deploy.parity.layers.graph import load_graph, node_modules  # needs onnx

    return node_modules(load_graph(onnx_file))


def profile_layers(
    session: EmbeddingSession, tensorrt: TensorRT, inputs: np.ndarray, runs: int, layers: LayerMap
) -> LayerProfile:
    """Run a session's engine with TensorRT's profiler and map what it reports.

    The runs are without CUDA graphs, which report no layers.

    Args:
        session: one that does not capture, and is closed afterwards: the profiler stays.
        tensorrt: the module that loaded it.
        inputs: one prepared batch.
        runs: how many count, after one that does not.
        layers: whose the layers are.
    """
    times = session.profile(inputs, runs, tensorrt.module.IProfiler)
    found = (LayerTime(name, layers.part(name), float(np.median(times[name]))) for name in times)
    return LayerProfile(tuple(found), runs)

"""Profile an engine's layers and attribute their time to PyTorch modules and solver steps.

TensorRT names a layer after its ONNX nodes. Several nodes can fuse into one layer, and some layers,
for example for reformatting, have no node. If the nodes of a layer belong to one module, its time
counts for that module. If they belong to several, it counts for their combination. If a layer has
no node, its time is unattributed.
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
# A match must not be part of a longer name, so none of these may come before or after it.
_WORD = r"[\w./]"


@dataclass(frozen=True)
class LayerTime:
    """One layer of an engine.

    Attributes:
        layer: TensorRT's name for it.
        part: the part of the model: a PyTorch module, `head: newton, step 3`, or `unattributed`.
        milliseconds: median over runs.
    """

    layer: str
    part: str
    milliseconds: float


@dataclass(frozen=True)
class LayerProfile:
    """All layers of an engine at one batch size.

    Attributes:
        layers: in the order of execution.
        runs: how many runs the medians are over.
    """

    layers: tuple[LayerTime, ...]
    runs: int

    @property
    def total(self) -> float:
        """Milliseconds of all layers; more than a normal run, because profiling adds waits."""
        return sum(layer.milliseconds for layer in self.layers)

    def parts(self) -> dict[str, float]:
        """Return milliseconds by part, largest first and unattributed time last."""
        times: dict[str, float] = defaultdict(float)
        for layer in self.layers:
            times[layer.part] += layer.milliseconds
        return dict(sorted(times.items(), key=lambda item: (item[0] == UNATTRIBUTED, -item[1])))

    @property
    def head_share(self) -> float:
        """Share of the time in layers that belong to the pooling head only."""
        head = sum(ms for part, ms in self.parts().items() if part.startswith("head"))
        return head / self.total if self.total else 0.0


class LayerMap:
    """Maps the name of a layer to the part of the model.

    Args:
        modules: the PyTorch module of each ONNX node by the node's name, from `modules_of`.
    """

    def __init__(self, modules: Mapping[str, str]) -> None:
        self._parts = {name: _part(name, module) for name, module in modules.items() if name}
        # Longest first, so that a name is found before a shorter name that it contains.
        names = sorted(self._parts, key=len, reverse=True)
        # Last, the constants that TensorRT creates for the head's nodes, such as `gsp/square_0`.
        found = "|".join([*(re.escape(name) for name in names), rf"gsp/{_WORD}+"])
        self._pattern = re.compile(rf"(?<!{_WORD})(?:{found})(?!{_WORD})")

    def part(self, layer: str) -> str:
        """Return the part of a layer, joined by ` + ` if its nodes belong to several."""
        nodes = self._pattern.findall(layer.replace("...", " ... "))  # `first...last`
        parts = sorted({self._parts.get(node) or _part(node, "head") for node in nodes})
        if not parts:
            return UNATTRIBUTED
        if all(part.startswith("head") for part in parts) and len(parts) > 1:
            return _joined_head(parts)
        return " + ".join(parts)


def _joined_head(parts: Sequence[str]) -> str:
    """Name a layer with several steps of the head; TensorRT fuses chains of pointwise nodes."""
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
        ModelFileError: the file is missing or not an ONNX file.
    """
    from gsp_deploy.parity.layers.graph import load_graph, node_modules  # needs onnx

    return node_modules(load_graph(onnx_file))


def profile_layers(
    session: EmbeddingSession, tensorrt: TensorRT, inputs: np.ndarray, runs: int, layers: LayerMap
) -> LayerProfile:
    """Run a session's engine with TensorRT's profiler and map what it reports.

    Runs are without CUDA graphs, because graphs report no layers.

    Args:
        session: a session without CUDA graphs; close it afterwards, because the profiler stays
            attached.
        tensorrt: the TensorRT that loaded the engine.
        inputs: one prepared batch.
        runs: how many runs count, after one to warm up.
        layers: maps the layers to parts of the model.
    """
    times = session.profile(inputs, runs, tensorrt.module.IProfiler)
    found = (LayerTime(name, layers.part(name), float(np.median(times[name]))) for name in times)
    return LayerProfile(tuple(found), runs)

"""Read a checkpoint's inner values with forward hooks, under the exported graph's names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gsp_deploy.parity.layers.graph import TracedGraph
from gsp_deploy.parity.layers.probes import Probe
from gsp_deploy.parity.outputs import COMPARABLE
from gsp_deploy.runtime.session import SessionOptions
from gsp_deploy.runtime.torch_session import TorchSession


class TorchProbe(Probe):
    """A checkpoint that returns its modules' outputs as the values of a graph exported from it.

    A module without children pairs with its node in the graph: with the last node if the module
    ran once, else call by call. A module that the exporter fused differently is left out.

    Args:
        path: the checkpoint.
        graph: a graph exported from it, which names the values.
        options: device and threads.
    """

    def __init__(self, path: Path, graph: TracedGraph, options: SessionOptions) -> None:
        self._session = TorchSession(path, options)
        values = _values_by_module(graph)
        leaves = {
            name: module
            for name, module in self._session.model.named_modules()
            if name in values and not list(module.children())
        }
        self._pairs = {name: values[name] for name in leaves}
        self._outputs = [name for name in COMPARABLE if name in self._session.info.outputs]
        self.names = frozenset(self._outputs).union(*self._pairs.values())
        self._calls: dict[str, list[np.ndarray]] = {}
        self._hooks = [
            module.register_forward_hook(self._recorder(name)) for name, module in leaves.items()
        ]

    def run(self, images: np.ndarray) -> Mapping[str, np.ndarray]:
        """Return the modules' outputs by value name, and the model's outputs."""
        self._calls = {}
        found = dict(self._session.run(images, self._outputs))
        for scope, calls in self._calls.items():
            names = self._pairs[scope]
            if len(calls) == 1:
                found[names[-1]] = calls[0]
            elif len(calls) == len(names):
                found.update(zip(names, calls, strict=True))
        return found

    def close(self) -> None:
        """Remove the hooks and release the model."""
        for hook in self._hooks:
            hook.remove()
        self._session.close()

    def _recorder(self, name: str) -> Any:
        def record(module: nn.Module, inputs: Any, output: Any) -> None:
            if isinstance(output, Tensor):
                # A copy, because the next module may work in place.
                values = output.detach().to("cpu", torch.float32, copy=True).numpy()
                self._calls.setdefault(name, []).append(values)

        return record


def _values_by_module(graph: TracedGraph) -> dict[str, list[str]]:
    """Return the values of each module that the exporter recorded, in order."""
    found: dict[str, list[str]] = {}
    for value in graph.values:
        if value.scope:
            found.setdefault(value.scope, []).append(value.name)
    return found

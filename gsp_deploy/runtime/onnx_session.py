"""Run an exported model with ONNX Runtime, on any of its execution providers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from gsp_deploy.artifact import METADATA_KEY, ExportManifest, read_sidecar
from gsp_deploy.artifact.identity import weight_files
from gsp_deploy.artifact.onnx_manifest import check_runnable
from gsp_deploy.errors import UsageError
from gsp_deploy.runtime.onnx_graph import OnnxGraph
from gsp_deploy.runtime.providers import threads_reach
from gsp_deploy.runtime.session import (
    Capability,
    EmbeddingSession,
    SessionInfo,
    SessionOptions,
    without_embedding,
)


class OnnxSession(EmbeddingSession):
    """Embeds with ONNX Runtime."""

    def __init__(self, path: Path, options: SessionOptions) -> None:
        manifest = _manifest_beside(path)
        if path.is_file():
            weight_files(path)  # before ONNX Runtime opens what the graph names
        check_runnable(path, manifest, "ONNX Runtime")
        self._graph = OnnxGraph(path, options)
        super().__init__(_describe(path, self._graph, manifest), options)
        batch = self._graph.input.shape[0]
        if isinstance(batch, int):
            self._max_batch = batch

    def infer(self, inputs: np.ndarray, outputs: Sequence[str]) -> Mapping[str, np.ndarray]:
        """Run one batch, padded with zeros if the graph has a fixed batch size.

        An empty batch runs as one image of zeros, because only a run gives the outputs' shapes.
        """
        count, batch = len(inputs), self._graph.input.shape[0]
        needed = batch if isinstance(batch, int) else 1
        if count < needed:
            padding = np.zeros((needed - count, *inputs.shape[1:]), inputs.dtype)
            inputs = np.concatenate([inputs, padding])
        found = self._graph.run(inputs, outputs)
        return {name: array[:count].astype(np.float32) for name, array in found.items()}

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What this session can do beside `embed` and `run`."""
        return frozenset(("embed_dlpack",))

    def embed_dlpack(self, images: Any) -> Any:
        """Embed an array of torch, CuPy, JAX or numpy in place, and leave the result on its device.

        Nothing is copied and no value is checked; the images run as one batch. On CUDA,
        synchronise the stream that writes the images first.

        Args:
            images: a dense DLPack array on this session's device, of the graph's own input
                type and shape: normalised, or pixels if the graph normalises.

        Returns:
            The embeddings `(B, D)` of the graph's output type, an `OrtValue` that supports DLPack
            too: `torch.from_dlpack(embeddings)`, `numpy.from_dlpack(embeddings)`.

        Raises:
            UsageError: the array does not fit.
            MissingCapabilityError: this ONNX Runtime has no DLPack.
        """
        if self.closed:
            raise UsageError(f"{self.info.path}: the session is closed; open the model again")
        return self._graph.run_in_place(images, "embedding")

    def close(self) -> None:
        """Release ONNX Runtime's session."""
        self.closed = True
        self._graph.close()


def _manifest_beside(path: Path) -> ExportManifest | None:
    return read_sidecar(path) if path.is_file() else None


def _describe(path: Path, graph: OnnxGraph, beside: ExportManifest | None) -> SessionInfo:
    inside = graph.metadata().get(METADATA_KEY)
    manifest = beside if inside is None else ExportManifest.from_json(inside, path)
    shape = graph.output_shape("embedding") if "embedding" in graph.outputs else ()
    if len(shape) != 2 or not isinstance(shape[1], int):
        outputs = (f"{name} {list(graph.output_shape(name))}" for name in graph.outputs)
        raise without_embedding(path, outputs)
    emulated = ", bfloat16 emulated" if graph.emulates_bfloat16 else ""
    return SessionInfo(
        path=path,
        runtime=f"onnxruntime {onnxruntime.__version__}",
        device=f"{graph.provider.removesuffix('ExecutionProvider')}{emulated}",
        precision=manifest.precision if manifest else "unknown",
        input=graph.input,
        outputs=graph.outputs,
        embedding_dim=shape[1],
        preprocessing=manifest.preprocessing if manifest else None,
        manifest=manifest,
        config=manifest.model if manifest else None,
        emulated=graph.emulates_bfloat16,
        arithmetic=graph.arithmetic,
        threads_reach=threads_reach(graph.provider),
    )

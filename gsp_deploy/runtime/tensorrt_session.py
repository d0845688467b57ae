"""Run an engine with TensorRT or TensorRT-RTX."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import numpy as np

from gsp_deploy.artifact import TensorSpec
from gsp_deploy.artifact.engine_manifest import EngineManifest
from gsp_deploy.base.elements import ELEMENTS
from gsp_deploy.base.encoding import decode, encode
from gsp_deploy.device import DeviceProperties
from gsp_deploy.errors import ModelFileError, UsageError
from gsp_deploy.runtime.batching import Chunk, batch_steps, plan_chunks
from gsp_deploy.runtime.device_array import DeviceArray, DeviceView, view_of
from gsp_deploy.runtime.engine_runner import RUNS_BEFORE_CAPTURE, EngineRunner, PreparedShape
from gsp_deploy.runtime.session import (
    Capability,
    EmbeddingSession,
    SessionInfo,
    SessionOptions,
    check_shape,
)
from gsp_deploy.runtime.shared_engine import OPEN, EngineTensor, SharedEngine
from gsp_deploy.runtime.timeline import Timeline

_IMAGE_AXES = ("batch", "channels", "height", "width")
_PIXEL_AXES = ("batch", "height", "width", "channels")


class TensorRTSession(EmbeddingSession):
    """Embeds with an engine, on a stream and in buffers of its own.

    One session runs one batch at a time, from any thread; for several at once take more sessions
    on the same engine with `another`.
    """

    def __init__(
        self, engine: SharedEngine, manifest: EngineManifest | None, options: SessionOptions
    ) -> None:
        """Set up a session; if that fails half-way, everything is freed.

        Attributes beside those of every session: `engine`, its `manifest` if there is one, and
        the `runner` that does the work.

        Raises:
            ModelFileError: the engine has no output embedding.
            DeviceError: the device is out of memory, or fails otherwise.
        """
        self.engine, self.manifest = engine, manifest
        self.options = options
        self._lock = threading.Lock()
        self._steps: tuple[int, ...] = ()
        with ExitStack() as stack:
            engine.acquire()
            stack.callback(engine.release)
            super().__init__(_describe(engine, manifest, options), options)
            with engine.device.current():
                self.runner = EngineRunner(
                    engine, cuda_graphs=options.cuda_graphs, wait=options.wait
                )
            stack.callback(self._close_runner)
            self._resources = stack.pop_all()

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What this session can do beside `embed` and `run`."""
        return frozenset(("another", "embed_device", "profile", "timeline"))

    def warm_up(self, most: int) -> None:
        """Pad batches to a few sizes from now on, and run each size until it is captured.

        A context and a graph belong to one size of batch: with all sizes from 1 to `most`, the
        session would make and drop them all the time.
        """
        self._steps = batch_steps(most)
        self._run_zeros([step for step in self._steps for _ in range(RUNS_BEFORE_CAPTURE + 1)])

    def another(self, *, cuda_graphs: bool | None = None) -> TensorRTSession:
        """Return one more session on this engine, to run beside this one in another thread."""
        if self.closed:
            raise UsageError(f"{self.info.path}: the session is closed; open the model again")
        options = self.options
        if cuda_graphs is not None:
            options = replace(options, cuda_graphs=cuda_graphs)
        return TensorRTSession(self.engine, self.manifest, options)

    def timeline(
        self, inputs: np.ndarray, *, cold_l2: bool = False, clock: Callable[[], float] | None = None
    ) -> Timeline:
        """Return a timeline that runs one prepared batch repeatedly, timed in stages."""
        return Timeline(self, inputs, cold_l2=cold_l2, clock=clock or time.perf_counter)

    def profile(
        self, inputs: np.ndarray, runs: int, profiler: type
    ) -> Mapping[str, Sequence[float]]:
        """Return the milliseconds of every layer in every run, in the layers' order."""
        times: dict[str, list[float]] = {}

        class Profiler(profiler):  # type: ignore[misc, valid-type]
            def __init__(self) -> None:
                super().__init__()

            def report_layer_time(self, layer_name: str, ms: float) -> None:
                times.setdefault(layer_name, []).append(ms)

        listener = Profiler()
        self.infer(inputs, ("embedding",))
        for context in self.runner.contexts():
            context.profiler = listener
        for _ in range(runs):
            self.infer(inputs, ("embedding",))
        return times

    @property
    def no_graphs(self) -> str | None:
        """Why runs are not captured as CUDA graphs; None if they are."""
        return self.runner.no_graphs

    def device_properties(self) -> DeviceProperties:
        """Return the properties of the GPU."""
        return self.engine.device.properties()

    def infer(self, inputs: np.ndarray, outputs: Sequence[str]) -> Mapping[str, np.ndarray]:
        """Run one batch, padded with zeros to the least that the engine takes."""
        chunk = self._only_chunk(inputs)
        stored = encode(inputs, self.engine.input.dtype)
        with self._lock, self.engine.device.current():
            prepared = self.stage(stored, chunk)
            self.runner.upload(prepared)
            self.runner.execute(prepared)
            self.runner.download(prepared, outputs)
            self.runner.wait()
            return {name: self._fetch(prepared, name, chunk.count) for name in outputs}

    def stage(self, stored: np.ndarray, chunk: Chunk) -> PreparedShape:
        """Copy a batch into the page-locked input of the shape that it runs as."""
        sizes = stored.shape[1:]
        limit = max(chunk.batch, self._largest(sizes))
        prepared = self.runner.prepare((chunk.batch, *sizes), chunk.profile, limit)
        host = self.runner.host_input(prepared)
        host[: chunk.count] = stored
        host[chunk.count :] = 0
        return prepared

    def embed_device(
        self, images: Any, *, out: Any = None, stream: int | None = None
    ) -> DeviceArray | Any:
        """Embed images that are already on the device, and leave the embeddings there.

        Args:
            images: an array with DLPack or `__cuda_array_interface__` (torch, CuPy, PyCUDA), dense,
                of the engine's own input type and shape: normalised, or pixels if the graph
                normalises. The values are not checked.
            out: an array of the same kind, `(B, D)` of the engine's output type, to be filled;
                None makes a new one, which costs an allocation.
            stream: handle of the caller's stream. The host then does not wait: the embedding runs
                after the work that is queued on the stream, and before the work queued later.
                With None the call returns when the embeddings are ready.

        Returns:
            `out`, or a `DeviceArray`.

        Raises:
            UsageError: an array does not fit.
            DeviceError: CUDA or TensorRT failed.
        """
        if self.closed:
            raise UsageError(f"{self.info.path}: the session is closed; open the model again")
        device = self.engine.device
        with self._lock, device.current():
            handle = device.handle_of(self.runner.stream)
            source = view_of(images, device, handle)
            self._check_device_input(source)
            target, result = self._device_output(out, len_of(source), handle)
            for other in {view.stream for view in (source, target)} | {stream}:
                if other is not None:
                    device.order(other, handle)
            self._run_on_device(source, target)
            if stream is None:
                self.runner.wait()
            else:
                device.order(handle, stream)
                if isinstance(result, DeviceArray):
                    result.written_on(stream)
        return result

    def _run_on_device(self, source: DeviceView, target: DeviceView) -> None:
        sizes = source.shape[1:]
        image_bytes = int(np.prod(sizes)) * ELEMENTS[source.dtype].nbytes
        row_bytes = target.shape[1] * ELEMENTS[target.dtype].nbytes
        for chunk in self._plan(source.shape[0], sizes) if source.shape[0] else ():
            prepared = self.runner.prepare(
                (chunk.batch, *sizes), chunk.profile, self._largest(sizes)
            )
            start = source.address + chunk.start * image_bytes
            self.runner.upload_from_device(start, chunk.count * image_bytes)
            self.runner.execute(prepared)
            place = target.address + chunk.start * row_bytes
            self.runner.download_to_device("embedding", place, chunk.count * row_bytes)

    def _check_device_input(self, source: DeviceView) -> None:
        check_shape(source.shape, self.info.input)
        if source.dtype != self.engine.input.dtype:
            raise UsageError(
                f"expected {self.engine.input.name} of {self.engine.input.dtype}, got "
                f"{source.dtype}"
            )

    def _device_output(self, out: Any, count: int, handle: int) -> tuple[DeviceView, Any]:
        tensor, shape = self._embedding, (count, self.info.embedding_dim)
        if out is None:
            item = ELEMENTS[tensor.dtype].nbytes
            out = DeviceArray(self.engine.device, shape, tensor.dtype, item)
            return DeviceView(out.address, shape, tensor.dtype, None, out), out
        target = view_of(out, self.engine.device, handle)
        if (target.shape, target.dtype) != (shape, tensor.dtype):
            raise UsageError(
                f"expected out to be {tensor.dtype} {shape}, got {target.dtype} {target.shape}"
            )
        return target, out

    @property
    def _embedding(self) -> EngineTensor:
        return next(tensor for tensor in self.engine.outputs if tensor.name == "embedding")

    def close(self) -> None:
        """Free everything on the device; the engine itself with its last session."""
        if not self.closed:
            self.closed = True
            self._resources.close()

    def _close_runner(self) -> None:
        with self._lock, self.engine.device.current():
            self.runner.close()

    def _chunks(self, inputs: np.ndarray) -> Iterator[np.ndarray]:
        for chunk in self._plan(len(inputs), inputs.shape[1:]):
            yield inputs[chunk.start : chunk.start + chunk.count]

    def _plan(self, count: int, sizes: Sequence[int]) -> list[Chunk]:
        steps = self._steps
        if not steps and self.runner.has_dropped:  # too many sizes to keep: a few from now on
            steps = batch_steps(self._max_batch)
        return plan_chunks(self.engine.profiles, count, sizes, self._max_batch, steps)

    def _largest(self, sizes: Sequence[int]) -> int:
        return max(chunk.batch for chunk in self._plan(self._max_batch, sizes))

    def _only_chunk(self, inputs: np.ndarray) -> Chunk:
        chunks = self._plan(len(inputs), inputs.shape[1:])
        if len(chunks) > 1:
            raise UsageError(
                f"{self.info.path} takes {chunks[0].count} images at once, got {len(inputs)}; "
                "build it with a --batch that covers them, or raise max_batch"
            )
        return chunks[0]

    def _fetch(self, prepared: PreparedShape, name: str, count: int) -> np.ndarray:
        tensor = next(tensor for tensor in self.engine.outputs if tensor.name == name)
        return decode(self.runner.host_output(prepared, name)[:count], tensor.dtype)


def len_of(view: DeviceView) -> int:
    """Return how many images a view holds."""
    return view.shape[0] if view.shape else 0


def _describe(
    engine: SharedEngine, manifest: EngineManifest | None, options: SessionOptions
) -> SessionInfo:
    outputs = {tensor.name: tensor for tensor in engine.outputs}
    shape = outputs["embedding"].shape if "embedding" in outputs else ()
    if len(shape) != 2 or shape[1] == OPEN:
        found = ", ".join(f"{tensor.name} {list(tensor.shape)}" for tensor in engine.outputs)
        raise ModelFileError(
            f"{engine.path}: expected an output embedding [batch, D], found {found}"
        )
    return SessionInfo(
        path=engine.path,
        runtime=engine.runtime,
        device=f"cuda:{engine.device.index}, {engine.device.api}",
        precision=manifest.precision.asked if manifest else "unknown",
        input=TensorSpec(engine.input.name, engine.input.dtype, _named(engine.input)),
        outputs=tuple(outputs),
        embedding_dim=shape[1],
        preprocessing=manifest.preprocessing if manifest else None,
        manifest=manifest.export if manifest else None,
        engine=manifest,
        config=manifest.export.model if manifest and manifest.export else None,
    )


def _named(tensor: EngineTensor) -> tuple[int | str, ...]:
    """Return the shape with words for open sizes."""
    axes = _PIXEL_AXES if tensor.dtype == "uint8" else _IMAGE_AXES
    names = axes if len(tensor.shape) == len(axes) else [f"size {i}" for i in range(9)]
    return tuple(names[axis] if size == OPEN else size for axis, size in enumerate(tensor.shape))

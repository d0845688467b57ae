"""The interface of every session: images in, embeddings out, with any runtime."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from gsp_deploy.artifact import ExportManifest, TensorSpec, shape_in_words
from gsp_deploy.base.choices import CudaApi, RuntimeWord, Wait
from gsp_deploy.config import AdoptedHead, BaselineConfig, ModelConfig, PreprocessingSpec
from gsp_deploy.errors import ModelFileError, UsageError, reason_of
from gsp_deploy.images.normalisation import check_uint8_images, normalise
from gsp_deploy.precision import FLOAT_WORDS, FloatPrecisionWord

if TYPE_CHECKING:
    from gsp_deploy.artifact.engine_manifest import EngineManifest
    from gsp_deploy.device import DeviceProperties
    from gsp_deploy.runtime.device_array import DeviceArray
    from gsp_deploy.runtime.timeline import Timeline

Capability = Literal[
    "another", "embed_device", "embed_dlpack", "profile", "prototype_scores", "timeline"
]
WAITS: tuple[str, ...] = get_args(Wait)
RUNTIME_WORDS: tuple[RuntimeWord, ...] = get_args(RuntimeWord)
# `requests` with this value leaves the number to the runtime, for the most images per second.
FOR_THROUGHPUT = 0
# ONNX Runtime accepts every name in these groups, and ignores those that it does not know.
SESSION_OPTION_GROUPS = ("ep", "mlas", "optimization", "session")


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How a model runs, whether it is in a file or in a bundle.

    Attributes:
        threads: threads of one inference on the CPU; None leaves it to the runtime.
        max_batch: images that go through the network at once.
        cuda_graphs: capture an engine's runs as CUDA graphs, one per shape.
        cuda_api: the Python library that calls CUDA: `auto`, `cuda-python` or `pycuda`.
        allow_host_code: load engines that carry code for the host (version compatible ones);
            only if you trust whoever built them.
        runtime: what runs an ONNX file: `onnxruntime` or `openvino`; None is the default of the
            model's kind, or of the bundle.
        precision: for OpenVINO: what it computes floats in, `fp32`, `bf16` or `fp16`; None takes
            the file's own precision if the processor has it, else `fp32`.
        requests: for OpenVINO: inferences in flight at once, which share the threads; 0 leaves the
            number to OpenVINO, for the most images per second.
        model_cache: for OpenVINO: a folder for compiled models; None keeps none.
    """

    threads: int | None = None
    max_batch: int = 64
    cuda_graphs: bool = True
    cuda_api: CudaApi = "auto"
    allow_host_code: bool = False
    runtime: RuntimeWord | None = None
    precision: FloatPrecisionWord | None = None
    requests: int = 1
    model_cache: Path | None = None

    @property
    def running(self) -> dict[str, Any]:
        """These options by name, without those that a subclass adds."""
        return {field.name: getattr(self, field.name) for field in fields(RunOptions)}


@dataclass(frozen=True)
class SessionOptions(RunOptions):
    """How a session runs a model file; see `RunOptions` for the others.

    Attributes:
        device: `cpu`, `cuda` or `cuda:N`.
        provider: ONNX Runtime's execution provider; None takes the one for the device.
        provider_options: settings of the provider, as ONNX Runtime names them.
        ep_libraries: libraries with execution providers, loaded into ONNX Runtime first.
        session_config: entries of ONNX Runtime's session configuration, such as
            `ep.context_enable`, by name.
        wait: how a thread waits while an engine runs: `spin`, `block` (sleep), or `auto`.
        plugins: shared objects with plugins that an engine needs.
    """

    device: str = "cpu"
    _: KW_ONLY
    provider: str | None = None
    provider_options: Mapping[str, str] = field(default_factory=dict)
    ep_libraries: tuple[Path, ...] = ()
    session_config: Mapping[str, str] = field(default_factory=dict)
    wait: Wait = "auto"
    plugins: tuple[Path, ...] = ()

    @property
    def device_index(self) -> int:
        """The number of the CUDA device; 0 if none was given."""
        return int(self.device.partition(":")[2] or 0)

    def __post_init__(self) -> None:
        if self.wait not in WAITS:
            raise UsageError(f"wait must be one of {', '.join(WAITS)}, got {self.wait!r}")
        kind, _, index = self.device.partition(":")
        if kind not in ("cpu", "cuda") or (index and not index.isdigit()):
            raise UsageError(f"device must be cpu, cuda or cuda:N, got {self.device!r}")
        if self.threads is not None and self.threads < 1:
            raise UsageError(f"threads must be at least 1, got {self.threads}")
        if self.max_batch < 1:
            raise UsageError(f"max_batch must be at least 1, got {self.max_batch}")
        self._check_runtime()
        for name in self.session_config:
            if name.partition(".")[0] not in SESSION_OPTION_GROUPS:
                raise UsageError(
                    f"ONNX Runtime has no session option {name!r}; they start with "
                    f"{', '.join(f'{group}.' for group in SESSION_OPTION_GROUPS)}, such as "
                    "ep.context_enable"
                )

    def _check_runtime(self) -> None:
        for name, word, known in (
            ("runtime", self.runtime, RUNTIME_WORDS),
            ("precision", self.precision, FLOAT_WORDS),
        ):
            if word is not None and word not in known:
                raise UsageError(f"{name} must be one of {', '.join(known)}, got {word!r}")
        if self.requests < FOR_THROUGHPUT:
            raise UsageError(f"requests must be at least {FOR_THROUGHPUT}, got {self.requests}")
        if self.runtime == "openvino":
            return
        for name, default in (("precision", None), ("requests", 1), ("model_cache", None)):
            if getattr(self, name) != default:
                raise UsageError(
                    f"{name} is a setting of OpenVINO; pass the runtime openvino, or leave it out"
                )


def without_embedding(path: Path, outputs: Iterable[str]) -> ModelFileError:
    """Return the error for a graph that has no output `embedding` `(batch, D)`.

    Args:
        path: the graph's file.
        outputs: name and shape of each output, in words.
    """
    return ModelFileError(
        f"{path}: expected an output embedding [batch, D], found {', '.join(outputs)}; "
        "`gsp-deploy adopt` takes networks of other exporters"
    )


@dataclass(frozen=True)
class SessionInfo:
    """Describe a session: model, runtime, device and precision.

    Attributes:
        path: the model file.
        runtime: `torch`, `onnxruntime`, `openvino` or TensorRT's name, with its version.
        device: where it computes, with the provider if there are several.
        precision: `fp32`, `fp16`, `bf16` or `int8`.
        input: name, element type and shape of the input; open sizes are words.
        outputs: names of the outputs.
        embedding_dim: D.
        preprocessing: how an image file becomes the input; None for a head alone.
        manifest: the export's manifest, if the file carries one.
        engine: the engine's manifest; None for other models, and if it has no manifest.
        emulated: whether the device only imitates the precision; its speed then means nothing.
        arithmetic: how the runtime may depart from the file's precision, or what was pinned, in
            words; empty if it computes as the file says.
        threads_reach: whether `threads` of the options reaches what computes.
        config: the model's configuration; None for a graph that is not an export of gsp-deploy.
    """

    path: Path
    runtime: str
    device: str
    precision: str
    input: TensorSpec
    outputs: tuple[str, ...]
    embedding_dim: int
    preprocessing: PreprocessingSpec | None
    manifest: ExportManifest | None = None
    engine: EngineManifest | None = None
    config: ModelConfig | None = None
    emulated: bool = False
    arithmetic: str = ""
    threads_reach: bool = True

    def require_preprocessing(self) -> PreprocessingSpec:
        """Return how an image file becomes the input.

        Raises:
            UsageError: the model does not say.
        """
        if self.preprocessing is None:
            raise UsageError(
                f"{self.path} does not say how images are prepared: it is a head alone, or was "
                "not exported by gsp-deploy; `gsp-deploy adopt` takes networks of other exporters"
            )
        return self.preprocessing

    def refuse_without_transport(self, output: str) -> None:
        """Raise `UsageError` if no model with this head has an output that only GSP gives."""
        head = None if self.config is None else self.config.head
        if isinstance(head, (BaselineConfig, AdoptedHead)):
            raise UsageError(f"{self.path} has {head.in_words}, and so no output {output}")


def _export_name(output: str) -> str:
    """Return what `export --also` calls an output: the bound comes with the residual."""
    return "residual" if output == "embedding_bound" else output


class EmbeddingSession(ABC):
    """An open model. Use it as a context manager, or call `close`.

    Attributes:
        info: the description of what runs.
        closed: whether `close` was called.
    """

    info: SessionInfo
    closed: bool = False

    def __init__(self, info: SessionInfo, options: SessionOptions) -> None:
        self.info = info
        self._max_batch = options.max_batch

    def embed(self, images: np.ndarray) -> np.ndarray:
        """Return the embeddings, float32 `(B, D)`.

        Args:
            images: uint8 `(B, H, W, 3)` RGB of the model's size, or float `(B, 3, H, W)`
                normalised already; any number of them.

        Raises:
            UsageError: shape or type do not fit, or a float image holds NaN or infinity.
        """
        return self.run(images, ("embedding",))["embedding"]

    def run(
        self, images: np.ndarray, outputs: Sequence[str] | None = None
    ) -> dict[str, np.ndarray]:
        """Return outputs by name, float32, batch first. None means all outputs of the model."""
        if self.closed:
            raise UsageError(f"{self.info.path}: the session is closed; open the model again")
        names = self.info.outputs if outputs is None else tuple(outputs)
        if missing := [name for name in names if name not in self.info.outputs]:
            self.info.refuse_without_transport(missing[0])
            raise UsageError(
                f"{self.info.path} has no output {missing[0]!r}, only "
                f"{', '.join(self.info.outputs)}; export it with --also {_export_name(missing[0])}"
            )
        chunks = self._infer_all(self._chunks(self.prepare(images)), names)
        return {name: np.concatenate([chunk[name] for chunk in chunks]) for name in names}

    def prepare(self, images: np.ndarray) -> np.ndarray:
        """Return images as this model's input: normalised unless the graph normalises."""
        images = _as_array(images)
        if self.info.input.dtype == "uint8":
            _check_pixels(images, self.info.input.shape)
            return images
        if images.dtype == np.uint8 and self.info.preprocessing is not None:
            batch, channels, height, width = self.info.input.shape
            _check_pixels(images, (batch, height, width, channels))
            return normalise(images, self.info.preprocessing)
        images = _as_float(images, self.info)
        check_shape(images.shape, self.info.input)
        return images

    @abstractmethod
    def infer(self, inputs: np.ndarray, outputs: Sequence[str]) -> Mapping[str, np.ndarray]:
        """Run one prepared batch, no larger than the session's own limit."""

    @abstractmethod
    def close(self) -> None:
        """Release the model and set `closed`. Closing twice does nothing."""

    def warm_up(self, most: int) -> None:
        """Prepare to run batches of 1 to `most` images, so that the first ones are not slow.

        A session on a GPU runs batches of a few sizes only from then on, and pads others up to
        the next one. If the size of the images is open, nothing is run.
        """
        self._run_zeros((1, most))

    def _run_zeros(self, batches: Sequence[int]) -> None:
        tensor = self.info.input
        sizes = [size for size in tensor.shape[1:] if isinstance(size, int)]
        if len(sizes) < len(tensor.shape) - 1:
            return
        dtype = np.uint8 if tensor.dtype == "uint8" else np.float32
        for batch in batches:
            self.run(np.zeros((batch, *sizes), dtype))

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What this session can do beside `embed` and `run`; each is the name of a method."""
        return frozenset()

    def another(self, *, cuda_graphs: bool | None = None) -> EmbeddingSession:
        """Return one more session on the same loaded model, to run in another thread.

        Args:
            cuda_graphs: whether it captures its runs; None does as this session does.

        Raises:
            UsageError: this runtime cannot do it; see `capabilities`.
        """
        raise self._cannot("another")

    def timeline(
        self, inputs: np.ndarray, *, cold_l2: bool = False, clock: Callable[[], float] | None = None
    ) -> Timeline:
        """Return a timeline that runs one prepared batch repeatedly, and times each run in stages.

        Args:
            inputs: one batch, as `prepare` returns it.
            cold_l2: empty the device's cache before every run.
            clock: seconds, for what the host does; None takes `time.perf_counter`.

        Raises:
            UsageError: this runtime cannot do it, or the batch is too large for one run.
        """
        raise self._cannot("timeline")

    def profile(
        self, inputs: np.ndarray, runs: int, profiler: type
    ) -> Mapping[str, Sequence[float]]:
        """Return the milliseconds of every layer in every run, in the layers' order.

        The profiler stays attached: close the session afterwards. A session that captures CUDA
        graphs reports nothing, so open one without.

        Args:
            inputs: one batch, as `prepare` returns it.
            runs: how many to record, after one run of warm-up.
            profiler: the runtime's own base class, such as `tensorrt.IProfiler`.

        Raises:
            UsageError: this runtime cannot do it.
        """
        raise self._cannot("profile")

    def prototype_scores(self, images: np.ndarray) -> np.ndarray:
        """Return -gamma c of each prototype at each location, float32 `(B, M, h, w)`.

        Raises:
            UsageError: this runtime does not give values inside the network.
        """
        raise self._cannot("prototype_scores")

    def embed_device(
        self, images: Any, *, out: Any = None, stream: int | None = None
    ) -> DeviceArray | Any:
        """Embed images that are on the GPU already; see `TensorRTSession.embed_device`."""
        raise self._cannot("embed_device")

    def embed_dlpack(self, images: Any) -> Any:
        """Embed an array of another library in place; see `OnnxSession.embed_dlpack`."""
        raise self._cannot("embed_dlpack")

    @property
    def no_graphs(self) -> str | None:
        """Why runs are not captured as CUDA graphs; None if they are."""
        return f"{self.info.runtime} captures none here"

    def device_properties(self) -> DeviceProperties | None:
        """Return the properties of the GPU if this session calls CUDA itself, else None."""
        return None

    def _cannot(self, method: Capability) -> UsageError:
        able = ", ".join(sorted(self.capabilities)) or "nothing"
        return UsageError(
            f"{self.info.path}: a session of {self.info.runtime} has no {method}; beside embed and "
            f"run it has {able}"
        )

    def __enter__(self) -> EmbeddingSession:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _infer_all(
        self, chunks: Iterator[np.ndarray], outputs: Sequence[str]
    ) -> list[Mapping[str, np.ndarray]]:
        """Run batches and return their outputs in order."""
        return [self.infer(chunk, outputs) for chunk in chunks]

    def _chunks(self, inputs: np.ndarray) -> Iterator[np.ndarray]:
        """Yield batches; an empty input gives one empty batch, so that the outputs have shapes."""
        for start in range(0, max(len(inputs), 1), self._max_batch):
            yield inputs[start : start + self._max_batch]


def _as_array(images: np.ndarray) -> np.ndarray:
    try:
        return np.asarray(images)
    except ValueError as error:
        raise UsageError(f"expected images of one size: {reason_of(error)}") from error


def _as_float(images: np.ndarray, info: SessionInfo) -> np.ndarray:
    if not np.issubdtype(images.dtype, np.floating):
        pixels = "" if info.preprocessing is None else "uint8 (batch, height, width, 3) or "
        raise UsageError(
            f"expected {info.input.name}, {pixels}float {_described(info.input)}, "
            f"got {images.dtype} of shape {images.shape}"
        )
    with np.errstate(over="ignore"):
        single = np.ascontiguousarray(images, dtype=np.float32)
    if not np.isfinite(single).all():
        raise UsageError(
            f"the {info.input.name} hold NaN or infinity in float32; check how they were normalised"
        )
    return single


def check_shape(shape: tuple[int, ...], expected: TensorSpec) -> None:
    """Raise `UsageError` unless all sizes but the batch fit; open ones take anything above 0."""
    if not _fits(shape, expected.shape):
        raise UsageError(f"expected {expected.name} of shape {_described(expected)}, got {shape}")


def _check_pixels(images: np.ndarray, expected: Sequence[int | str]) -> None:
    """Raise `UsageError` unless these are uint8 images of the model's size, channels last."""
    check_uint8_images(images)
    if not _fits(images.shape, expected):
        raise UsageError(
            f"expected images of shape {shape_in_words(('batch', *expected[1:]))}, "
            f"got {images.shape}; gsp_deploy.preprocessing.load_image(file, "
            "session.info.preprocessing) reads a file in that size"
        )


def _fits(shape: tuple[int, ...], expected: Sequence[int | str]) -> bool:
    return len(shape) == len(expected) and all(
        size == wanted if isinstance(wanted, int) else size > 0
        for size, wanted in zip(shape[1:], expected[1:], strict=True)
    )


def _described(tensor: TensorSpec) -> str:
    return shape_in_words(("batch", *tensor.shape[1:]))

"""Run an ONNX graph with one input in ONNX Runtime, and return its outputs by name."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnxruntime

from gsp_deploy.artifact import TensorSpec
from gsp_deploy.artifact.external_data import mentions
from gsp_deploy.base.elements import ELEMENTS
from gsp_deploy.base.encoding import as_float16
from gsp_deploy.base.environment import keep_int8_exact
from gsp_deploy.errors import GspDeployError, MissingCapabilityError, ModelFileError, reason_of
from gsp_deploy.runtime.ep_libraries import devices_of
from gsp_deploy.runtime.onnx_dlpack import ELEMENT_TYPES, check_device, run_bound, value_of
from gsp_deploy.runtime.providers import (
    CPU,
    arithmetic,
    provider_chain,
    provider_name,
    provider_settings,
)
from gsp_deploy.runtime.session import SessionOptions

_QUIET = 3  # errors only
_X86 = ("x86_64", "amd64")  # their int8 instructions multiply unsigned by signed
_Form = Literal["as exported", "unsigned", "widened"]


class OnnxGraph:
    """One graph in ONNX Runtime with a single input; reads the details that sessions share.

    Attributes:
        path: the model file.
        input: name, element type and shape of the input.
        outputs: names of the outputs.
        provider: the execution provider in use.
        emulates_bfloat16: the graph was widened because this provider has no bfloat16 kernels.
        arithmetic: how the provider computes, as in `SessionInfo`.
    """

    def __init__(self, path: Path, options: SessionOptions | None = None) -> None:
        options = options or SessionOptions()
        self.path = path
        self.provider = provider_name(options)
        self._session, form = _create(path, self.provider, options)
        self.emulates_bfloat16 = form == "widened"
        unsigned = "int8 activations as uint8" if form == "unsigned" else ""
        self.arithmetic = unsigned or arithmetic(self.provider, options)
        with _blaming(path, "load"):
            sources, results = self._session.get_inputs(), self._session.get_outputs()
            self.outputs = tuple(result.name for result in results)
            self._output_shapes = {result.name: tuple(result.shape) for result in results}
            found = ", ".join(f"{source.name} {source.type}" for source in sources)
            shapes = [tuple("?" if size is None else size for size in s.shape) for s in sources]
        if len(sources) != 1 or sources[0].type not in ELEMENT_TYPES:
            raise ModelFileError(f"{path}: expected one input of images, found {found}")
        self.input = TensorSpec(sources[0].name, ELEMENT_TYPES[sources[0].type], shapes[0])

    def run(self, inputs: np.ndarray, outputs: Sequence[str]) -> dict[str, np.ndarray]:
        """Run one batch and return the named outputs as they come.

        Raises:
            UsageError: an input is beyond the range of the graph's float16.
            ModelFileError: ONNX Runtime cannot run the graph on it.
        """
        if self.input.dtype == "float16":
            inputs = as_float16(inputs)
        with _blaming(self.path, "run"):
            found = self._session.run(list(outputs), {self.input.name: inputs})
        return dict(zip(outputs, found, strict=True))

    def run_in_place(self, array: Any, output: str) -> Any:
        """Run one batch of an array that speaks DLPack, and return an `OrtValue` on its device.

        Raises:
            UsageError: the array does not fit.
            MissingCapabilityError: this ONNX Runtime has no DLPack.
        """
        check_device(array, self.provider)
        value = value_of(array, self.input)
        with _blaming(self.path, "run"):
            return run_bound(self._session, self.input.name, value, array, output)

    def output_shape(self, name: str) -> tuple[int | str | None, ...]:
        """Return the shape of an output, open sizes as words."""
        return self._output_shapes[name]

    def metadata(self) -> Mapping[str, str]:
        """Return the file's metadata properties."""
        with _blaming(self.path, "load"):
            found: Mapping[str, str] = self._session.get_modelmeta().custom_metadata_map
        return found

    def close(self) -> None:
        """Release ONNX Runtime's session."""
        self._session = None

    def __enter__(self) -> OnnxGraph:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _create(path: Path, provider: str, options: SessionOptions) -> tuple[Any, _Form]:
    """Return the session, and the form of the graph that it runs."""
    if not path.is_file():
        raise ModelFileError(f"{path}: no such model file")
    with _blaming(path, "load"):
        try:
            if (unsigned := _unsigned(path, provider)) is not None:
                return _open(unsigned, provider, options), "unsigned"
            session = _open(str(path), provider, options)
            if not _speaks_bfloat16(session):
                return session, "as exported"
        except Exception as error:
            _refuse_compiled(path, provider, error)
            if "NOT_IMPLEMENTED" not in str(error):
                raise
        return _open(_widened(path, provider), provider, options), "widened"


def _unsigned(path: Path, provider: str) -> bytes | None:
    """Return the model with uint8 activations, if they are signed and this processor wants that."""
    if provider != CPU or platform.machine().lower() not in _X86:
        return None
    if not mentions(path, "QuantizeLinear"):
        return None  # so that it needs no onnx package
    try:
        from gsp_deploy.artifact.unsigned import unsign  # needs the onnx package
    except ModuleNotFoundError:
        return None  # slower, but the same
    return unsign(path)


def _speaks_bfloat16(session: Any) -> bool:
    """Whether input or outputs are bfloat16, which numpy and ONNX Runtime do not exchange."""
    ends = (*session.get_inputs(), *session.get_outputs())
    return any(value.type == ELEMENTS["bfloat16"].onnxruntime for value in ends)


def _refuse_compiled(path: Path, provider: str, error: Exception) -> None:
    """Raise an error of our own if a provider compiled this graph, which does not load."""
    if not mentions(path, "EPContext"):
        return
    from gsp_deploy.artifact.compiled import compiled_for  # needs the onnx package

    if (compiler := compiled_for(path)) is None:
        return
    if compiler != provider:
        raise MissingCapabilityError(
            f"{path} is compiled for {compiler} (EPContext), and {provider} cannot run it; open it "
            f"with --provider {compiler}"
        ) from error
    raise ModelFileError(
        f"{path} is compiled for {compiler} (EPContext), which cannot load it: {reason_of(error)}; "
        "compile the original model again, with this version and on this machine"
    ) from error


def _widened(path: Path, provider: str) -> bytes:
    from gsp_deploy.artifact.half_precision import widen  # needs the onnx package

    widened = widen(path, ELEMENTS["bfloat16"]) if provider == CPU else None
    if widened is None:
        raise ModelFileError(
            f"{path}: {provider} has no kernel for one of its operators or element types; "
            "export it with --precision and --io-precision fp32 or fp16"
        )
    return widened


@contextmanager
def _blaming(path: Path, action: str) -> Iterator[None]:
    """Raise any error of ONNX Runtime and protobuf, a dozen types, as `ModelFileError`."""
    try:
        yield
    except GspDeployError:
        raise
    except Exception as error:
        raise ModelFileError(
            f"{path}: ONNX Runtime cannot {action} it: {reason_of(error)}"
        ) from error


def _open(model: str | bytes, provider: str, options: SessionOptions) -> Any:
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = _QUIET
    # Workers that spin after a run take a core from the next work in this process.
    settings.add_session_config_entry("session.force_spinning_stop", "1")
    keep_int8_exact(settings)
    for name, value in options.session_config.items():
        settings.add_session_config_entry(name, value)
    if options.threads is not None:
        settings.intra_op_num_threads = options.threads
    chain = None  # a provider of a library is in the settings
    if provider in onnxruntime.get_available_providers():
        chain = provider_chain(provider, options)
    else:
        devices = devices_of(provider, options.device)
        settings.add_provider_for_devices(devices, provider_settings(provider, options))
    session = onnxruntime.InferenceSession(
        model,
        settings,
        providers=chain,
        enable_fallback=0,  # it would print on stdout, and hide why a provider did not start
    )
    if session.get_providers()[0] != provider:
        raise MissingCapabilityError(
            f"ONNX Runtime could not start {provider} and fell back to "
            f"{session.get_providers()[0]}; is its driver or library missing?"
        )
    return session

"""Parse an ONNX file into TensorRT's network, and turn each parser error into one line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gsp_deploy.artifact import TensorSpec
from gsp_deploy.base.elements import BY_TENSORRT
from gsp_deploy.engine.api import TensorRT
from gsp_deploy.engine.log import NO_REASON, make_log
from gsp_deploy.engine.starting import start
from gsp_deploy.errors import ModelFileError

OPEN = -1

_QUOTED = re.compile(r'&& "(.+?)"')
_INNER = re.compile(r"Error Code \d+: [\w ]+\((.+?)(?: In \w+ at [^)]*)?\)")
_PROVEN = re.compile(r"^.*Assertion failed: .*?: (?=[A-Z])")
_HINTS = (
    (
        "Plugin not found",
        "A custom node needs its plugin: pass --plugin with its library, or export without "
        "--pooling plugin",
    ),
    ("MODEL_DESERIALIZE_FAILED", "It is not a whole ONNX file; copy or export it again"),
    ("Failed to import initializer", "The file with its weights must be in the same folder"),
    (
        "same type",
        "Networks are strongly typed: put a Cast where types differ, or export from the "
        "checkpoint with --precision",
    ),
    ("UNSUPPORTED_NODE", "TensorRT has no such operator; export another backbone or opset"),
)


@dataclass(frozen=True)
class ParsedNetwork:
    """A network, and the objects that must live as long as it does.

    Attributes:
        tensorrt: the module that holds it.
        builder, network: TensorRT's objects.
        log: TensorRT's messages.
        source: the ONNX file.
        inputs, outputs: its tensors, open sizes as `OPEN`.
    """

    tensorrt: TensorRT
    builder: Any
    network: Any
    log: Any
    source: Path
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    @property
    def layers(self) -> Iterator[Any]:
        """Yield the layers in order."""
        for index in range(self.network.num_layers):
            yield self.network.get_layer(index)


def parse_onnx(tensorrt: TensorRT, source: Path) -> ParsedNetwork:
    """Parse a file into a strongly typed network.

    Raises:
        ModelFileError: TensorRT cannot parse it; the message gives node, operator and reason of
            each error, and what to do.
        MissingCapabilityError: TensorRT does not start here.
    """
    if not source.is_file():
        raise ModelFileError(f"{source}: no such model file")
    module, log = tensorrt.module, make_log(tensorrt)
    builder = start(tensorrt, module.Builder, log)
    network = builder.create_network(1 << int(module.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = module.OnnxParser(network, log)
    if not parser.parse_from_file(str(source)):
        errors = [parser.get_error(index) for index in range(parser.num_errors)]
        raise ModelFileError(f"{source}: {tensorrt.name} cannot parse it: {_reasons(errors)}")
    if network.num_layers == 0 or network.num_outputs == 0:
        raise ModelFileError(f"{source}: not an ONNX model, its graph is empty")
    inputs = (network.get_input(index) for index in range(network.num_inputs))
    outputs = (network.get_output(index) for index in range(network.num_outputs))
    return ParsedNetwork(
        tensorrt,
        builder,
        network,
        log,
        source,
        tuple(_spec(tensor) for tensor in inputs),
        tuple(_spec(tensor) for tensor in outputs),
    )


def element_type(tensor: Any) -> str:
    """Return the element type of a tensor in this package's words."""
    word = tensor.dtype.name
    return BY_TENSORRT[word].name if word in BY_TENSORRT else word.lower()


def _spec(tensor: Any) -> TensorSpec:
    return TensorSpec(tensor.name, element_type(tensor), tuple(int(size) for size in tensor.shape))


def _reasons(errors: list[Any]) -> str:
    """Return node, operator and reason of each error, and the hint that fits the first."""
    if not errors:
        return NO_REASON
    reasons = [_one(error) for error in errors]
    everything = " ".join(f"{error.code().name} {error.desc()}" for error in errors)
    hint = next((hint for sign, hint in _HINTS if sign in everything), None)
    return "; ".join(dict.fromkeys(reasons)) + ("" if hint is None else f". {hint}")


def _one(error: Any) -> str:
    where = f"node {error.node_name()} ({error.node_operator()}): " if error.node_operator() else ""
    return where + reason_in(error.desc(), error.code().name)


def reason_in(description: str, code: str) -> str:
    """Return a parser's description as one line, without file and function."""
    text = " ".join(description.split())
    if text in ("", "false"):
        return f"not supported ({code})"
    if inner := _INNER.search(text):
        return inner[1].rstrip(".")
    if quoted := _QUOTED.search(text):
        return quoted[1]
    return _PROVEN.sub("", text).rstrip(".")

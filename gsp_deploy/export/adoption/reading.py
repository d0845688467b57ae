"""Read an ONNX network of any exporter, and keep what leads from its images to one output."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import onnx_ir as ir
from onnx_ir.passes import common as passes

from gsp_deploy.artifact import METADATA_KEY, TensorSpec
from gsp_deploy.artifact.kind import ONNX, require_kind
from gsp_deploy.base.file_names import require_utf8
from gsp_deploy.errors import GspDeployError, ModelFileError, UsageError, flattened
from gsp_deploy.export.model_file import load_network

# ONNX Runtime runs nothing older.
OLDEST_OPSET = 7
# The name of the standard operators' domain in older files.
_LONG_DOMAIN = "ai.onnx"
_MOST_NAMED = 12


@contextmanager
def blaming(path: Path) -> Iterator[None]:
    """Raise any error of onnx_ir or protobuf, a dozen types, as `ModelFileError`."""
    try:
        yield
    except (GspDeployError, OSError):
        raise
    except Exception as error:
        raise ModelFileError(f"{path}: not a usable ONNX network ({flattened(error)})") from error


def read_network(path: Path, output: str | None) -> ir.Model:
    """Return the network with one output, its inputs that lead there, and weights as initializers.

    1. Weights that a file of IR version 3 lists as inputs are no inputs.
    2. Nodes, inputs and weights that the chosen output does not need are left out.
    3. Functions are inlined, constants become initializers, and every node gets a name.

    Args:
        path: an `.onnx` file.
        output: the output to keep; None if the file has only one.

    Raises:
        UsageError: the path has another suffix, gsp-deploy made the file, there is no such output,
            or there are several and none is chosen.
        ModelFileError: the file is missing or damaged, or its operator set is too old.
    """
    require_kind(path, ONNX, what="a network")
    require_utf8(path)
    with blaming(path):
        network = load_network(path)
        if METADATA_KEY in network.metadata_props:
            raise UsageError(
                f"{path} has a manifest of gsp-deploy already, so every command reads it"
            )
        _settle_opset(network, path)
        passes.RemoveInitializersFromInputsPass()(network)
        graph = network.graph
        graph.outputs[:] = [_chosen(graph.outputs, output, path)]
        if network.functions:
            passes.InlinePass()(network)
        for tidy in (
            passes.RemoveUnusedNodesPass(),
            passes.RemoveUnusedFunctionsPass(),
            passes.RemoveUnusedOpsetsPass(),
            passes.LiftConstantsToInitializersPass(size_limit=0),
            passes.NameFixPass(),
        ):
            tidy(network)
        result = graph.outputs[0]
        graph.inputs[:] = [value for value in graph.inputs if value.uses() or value is result]
    return network


def described(values: Iterable[ir.Value]) -> str:
    """Return values in words, such as `features float32 (batch, 384), logits float32 (1, 1000)`."""
    words = [_in_words(value) for value in values]
    more = f" and {len(words) - _MOST_NAMED} more" if len(words) > _MOST_NAMED else ""
    return ", ".join(words[:_MOST_NAMED]) + more if words else "none"


def shape_of(value: ir.Value) -> tuple[int | str, ...] | None:
    """Return a shape with `?` for sizes without a name; None if the rank is unknown."""
    if value.shape is None:
        return None
    return tuple(size if isinstance(size, int) else str(size.value or "?") for size in value.shape)


def _in_words(value: ir.Value) -> str:
    shape = shape_of(value)
    dtype = "unknown" if value.dtype is None else value.dtype.name.lower()
    dtype = {"float": "float32"}.get(dtype, dtype)
    if shape is None:
        return f"{value.name} {dtype}"
    return str(TensorSpec(str(value.name), dtype, shape))


def _chosen(outputs: Iterable[ir.Value], name: str | None, path: Path) -> ir.Value:
    found = list(outputs)
    if name is None and len(found) == 1:
        return found[0]
    for value in found:
        if value.name == name:
            return value
    if name is None:
        raise UsageError(
            f"{path} has several outputs: {described(found)}; choose one with --output NAME"
        )
    raise UsageError(f"{path} has no output {name!r}; expected one of: {described(found)}")


def _settle_opset(network: ir.Model, path: Path) -> None:
    """Put the standard operators under the domain's short name, and check their version."""
    if not len(network.graph):
        raise ModelFileError(f"{path}: not an ONNX network, its graph is empty")
    opsets = network.opset_imports
    if _LONG_DOMAIN in opsets:
        opsets.setdefault("", opsets[_LONG_DOMAIN])
        del opsets[_LONG_DOMAIN]
    if opsets.get("", 0) < OLDEST_OPSET:
        raise ModelFileError(
            f"{path} is of opset {opsets.get('', 'unknown')}, and ONNX Runtime runs opset "
            f"{OLDEST_OPSET} and later; export the network again"
        )

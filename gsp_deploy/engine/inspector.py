"""Read the element types of a built engine with TensorRT's inspector, if it can be loaded."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from gsp_deploy.artifact.engine_manifest import PrecisionSummary
from gsp_deploy.base.elements import ELEMENTS
from gsp_deploy.engine.layer_types import compute_layers
from gsp_deploy.engine.log import make_log
from gsp_deploy.engine.network import ParsedNetwork
from gsp_deploy.engine.starting import start
from gsp_deploy.errors import GateError, MissingCapabilityError
from gsp_deploy.precision import precision_named

# The inspector's words for element types differ by version; each row has the words of all versions.
# bfloat16 comes first, because its words contain float32's.
_SIGNS = [(ELEMENTS[n], n) for n in ("bfloat16", "float16", "int8", "float32")]
_FIELDS = ("Format/Datatype", "Datatype", "Format")


def check_engine(parsed: ParsedNetwork, plan: bytes, found: PrecisionSummary) -> PrecisionSummary:
    """Return the summary, from the engine itself if it can be loaded and reports its types.

    Raises:
        GateError: the network has a layer in less than float32, but in the engine all inputs and
            outputs of that layer are float32.
    """
    layers = engine_layers(parsed, plan)
    types = [layer_types(layer) for layer in layers]
    if not any(types):
        return found
    wanted = precision_named(found.asked).element.name
    if wanted != "float32":
        low = [layer.name for layer in compute_layers(parsed) if layer.dtype == wanted]
        if wrong := widened(layers, low, wanted):
            raise GateError(
                f"{parsed.source}: {parsed.tensorrt.name} built these layers in float32 although "
                f"the network has them in {wanted}: {', '.join(wrong)}"
            )
    counts = Counter(next(iter(kinds)) for kinds in types if kinds)
    return replace(found, verified_on="engine", layers=dict(counts))


def engine_layers(parsed: ParsedNetwork, plan: bytes) -> list[Mapping[str, Any]]:
    """Return the inspector's layers; none if the plan cannot be loaded or reports names only."""
    module = parsed.tensorrt.module
    try:
        runtime = start(parsed.tensorrt, module.Runtime, make_log(parsed.tensorrt))
    except MissingCapabilityError:  # TensorRT-RTX builds where nothing can be loaded
        return []
    runtime.engine_host_code_allowed = True  # it was built in this process a moment ago
    engine = runtime.deserialize_cuda_engine(plan)
    if engine is None:
        return []
    text = engine.create_engine_inspector().get_engine_information(
        module.LayerInformationFormat.JSON
    )
    try:
        layers = json.loads(text).get("Layers", [])
    except (ValueError, AttributeError):
        return []
    return [layer for layer in layers if isinstance(layer, Mapping)]


def layer_types(layer: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the element types of a layer's outputs, then of its inputs, each once."""
    tensors = [*_tensors(layer, "Outputs"), *_tensors(layer, "Inputs")]
    return tuple(dict.fromkeys(kind for tensor in tensors if (kind := _type_of(tensor))))


def widened(layers: Iterable[Mapping[str, Any]], low: Sequence[str], wanted: str) -> list[str]:
    """Return the nodes of `low` that have no tensor of type `wanted` in their engine layer."""
    wrong = []
    for layer in layers:
        types = layer_types(layer)
        if not types or wanted in types:
            continue
        text = f"{layer.get('Name', '')} {layer.get('Metadata', '')}"
        wrong += [name for name in low if re.search(rf"(?<![\w/]){re.escape(name)}(?!\w)", text)]
    return list(dict.fromkeys(wrong))


def _tensors(layer: Mapping[str, Any], side: str) -> list[Mapping[str, Any]]:
    return [tensor for tensor in layer.get(side, ()) if isinstance(tensor, Mapping)]


def _type_of(tensor: Mapping[str, Any]) -> str | None:
    text = " ".join(str(tensor.get(name, "")) for name in _FIELDS).upper()
    return next((name for row, name in _SIGNS if any(sign in text for sign in row.inspector)), None)

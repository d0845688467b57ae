"""Check, layer by layer, that a network computes in the precision that was asked for."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from gsp_deploy.artifact import ExportManifest
from gsp_deploy.artifact.engine_manifest import PrecisionSummary
from gsp_deploy.artifact.pooling_node import HEAD_PREFIX
from gsp_deploy.engine.network import ParsedNetwork, element_type
from gsp_deploy.errors import GateError
from gsp_deploy.precision import PRECISIONS, precision_named

# Types of layer that the precision applies to, each with the ONNX operators that become it.
_OPERATORS = {
    "CONVOLUTION": ("Conv",),
    "DECONVOLUTION": ("ConvTranspose",),
    "MATRIX_MULTIPLY": ("MatMul", "Gemm"),
}
# Layers that pass values on: an unsqueezed weight is still that weight.
_PASSING = ("SHUFFLE", "CAST", "IDENTITY", "QUANTIZE", "DEQUANTIZE")
_NAMED = 8


@dataclass(frozen=True)
class ComputeLayer:
    """A convolution or matrix product, and its element type.

    Attributes:
        name: the ONNX node's.
        kind: TensorRT's type of layer.
        dtype: element type of its result; `int8` if all its inputs were dequantised.
        has_weights: whether it multiplies by weights. The product of two activations, as in
            attention, does not, and is never quantised.
    """

    name: str
    kind: str
    dtype: str
    has_weights: bool = True

    @property
    def in_head(self) -> bool:
        """Whether it belongs to the pooling head, where costs are float32 by design."""
        return self.name.startswith(HEAD_PREFIX)


def compute_layers(parsed: ParsedNetwork) -> tuple[ComputeLayer, ...]:
    """Return the convolutions and matrix products of a network, in order."""
    dequantised: set[str] = set()
    constant: set[str] = set()
    found = []
    for layer in parsed.layers:
        kind = layer.type.name
        taken = [layer.get_input(index) for index in range(layer.num_inputs)]
        names = [None if tensor is None else tensor.name for tensor in taken]
        if kind == "CONSTANT" or (kind in _PASSING and names[0] in constant):
            constant.add(layer.get_output(0).name)
        if kind == "DEQUANTIZE" or (kind == "SHUFFLE" and names[0] in dequantised):
            dequantised.add(layer.get_output(0).name)
        if kind not in _OPERATORS:
            continue
        is_int8 = len(names) > 1 and dequantised.issuperset(names[:2])  # type: ignore[arg-type]
        dtype = "int8" if is_int8 else element_type(layer.get_output(0))
        has_weights = kind != "MATRIX_MULTIPLY" or not constant.isdisjoint(names)
        found.append(ComputeLayer(layer.name, kind, dtype, has_weights))
    return tuple(found)


def check_precision(
    parsed: ParsedNetwork, asked: str | None, export: ExportManifest | None
) -> PrecisionSummary:
    """Return the element types of the network after a check against the precision asked for.

    Args:
        parsed: the network.
        asked: `fp32`, `fp16`, `bf16` or `int8`; None means what the file declares.
        export: the file's manifest, which lists operators and layers left in float32 on purpose.

    Raises:
        GateError: layers compute in another type; the message names them.
    """
    layers = compute_layers(parsed)
    asked = asked or (_most_common(layers) if export is None else export.precision)
    wanted = precision_named(asked).element.name
    excused = _excused(export)
    quantised = precision_named(asked).quantised
    backbone = [
        layer for layer in layers if not layer.in_head and (layer.has_weights or not quantised)
    ]
    wrong = [
        layer for layer in backbone if layer.dtype != wanted and not _is_excused(layer, excused)
    ]
    if wrong:
        raise GateError(_mismatch(parsed, asked, wrong, len(backbone)))
    if layers and all(layer.dtype != wanted for layer in backbone or layers):
        raise GateError(_mismatch(parsed, asked, backbone or list(layers), len(backbone or layers)))
    types = Counter(
        element_type(layer.get_output(0)) for layer in parsed.layers if layer.num_outputs
    )
    kept = tuple(layer.name for layer in layers if layer.dtype != wanted)
    return PrecisionSummary(asked, "network", dict(types), kept)


def _most_common(layers: tuple[ComputeLayer, ...]) -> str:
    counts = Counter(layer.dtype for layer in layers)
    words = {row.element.name: row.word for row in PRECISIONS.values()}
    return next((words[dtype] for dtype, _ in counts.most_common() if dtype in words), "fp32")


def _excused(export: ExportManifest | None) -> frozenset[str]:
    """Return the operators and nodes that the export's manifest lists as left in float32."""
    if export is None:
        return frozenset()
    nodes = () if export.quantisation is None else export.quantisation.float_layers
    return frozenset(export.kept_in_float32) | {layer.node for layer in nodes}


def _is_excused(layer: ComputeLayer, excused: frozenset[str]) -> bool:
    return layer.dtype == "float32" and not excused.isdisjoint(
        (layer.name, *_OPERATORS[layer.kind])
    )


def _mismatch(parsed: ParsedNetwork, asked: str, wrong: list[ComputeLayer], total: int) -> str:
    names = ", ".join(f"{layer.name} ({layer.dtype})" for layer in wrong[:_NAMED])
    more = f" and {len(wrong) - _NAMED} more" if len(wrong) > _NAMED else ""
    return (
        f"{parsed.source}: {asked} was asked for, but {len(wrong)} of {total} layers with weights "
        f"compute in another type: {names}{more}; export the checkpoint with --precision {asked}"
    )

"""Whether a network computes in the precision that was asked for, layer by layer."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from gsp_deploy.artifact import ExportManifest
from gsp_deploy.artifact.engine_manifest import PrecisionSummary
from gsp_deploy.artifact.pooling_node import HEAD_PREFIX
from gsp_deploy.engine.network import ParsedNetwork, element_type
from gsp_deploy.errors import GateError
from gsp_deploy.precision import PRECISIONS, precision_named

# Layers whose arithmetic the precision is about, by the ONNX operators that become them.
_OPERATORS = {
    "CONVOLUTION": ("Conv",),
    "DECONVOLUTION": ("ConvTranspose",),
    "MATRIX_MULTIPLY": ("MatMul", "Gemm"),
}
_NAMED = 8


@dataclass(frozen=True)
class ComputeLayer:
    """A convolution or matrix product, and what it computes in.

    Attributes:
        name: the ONNX node's.
        kind: TensorRT's type of layer.
        dtype: element type of its result; `int8` where all that it takes was dequantised.
    """

    name: str
    kind: str
    dtype: str

    @property
    def in_head(self) -> bool:
        """Whether it belongs to the pooling head, whose cost is float32 by design."""
        return self.name.startswith(HEAD_PREFIX)


def compute_layers(parsed: ParsedNetwork) -> tuple[ComputeLayer, ...]:
    """Return the layers that carry a network's arithmetic, in order."""
    dequantised: set[str] = set()
    found = []
    for layer in parsed.layers:
        kind = layer.type.name
        if kind == "DEQUANTIZE":
            dequantised.add(layer.get_output(0).name)
        if kind not in _OPERATORS:
            continue
        taken = [layer.get_input(index) for index in range(layer.num_inputs)]
        is_int8 = len(taken) > 1 and all(t is not None and t.name in dequantised for t in taken[:2])
        dtype = "int8" if is_int8 else element_type(layer.get_output(0))
        found.append(ComputeLayer(layer.name, kind, dtype))
    return tuple(found)


def check_precision(
    parsed: ParsedNetwork, asked: str | None, export: ExportManifest | None
) -> PrecisionSummary:
    """Return what the network computes in, having held it against what was asked for.

    Args:
        parsed: the network.
        asked: `fp32`, `fp16`, `bf16` or `int8`; None means what the file promises.
        export: the file's manifest: which operators and layers it left in float32 on purpose.

    Raises:
        GateError: layers compute in another type; they are named.
    """
    layers = compute_layers(parsed)
    asked = asked or (_most_common(layers) if export is None else export.precision)
    wanted = precision_named(asked).element.name
    excused = _excused(export)
    backbone = [layer for layer in layers if not layer.in_head]
    wrong = [
        layer for layer in backbone if layer.dtype != wanted and not _is_excused(layer, excused)
    ]
    if wrong:
        raise GateError(_told(parsed, asked, wrong, len(backbone)))
    if layers and all(layer.dtype != wanted for layer in backbone or layers):
        raise GateError(_told(parsed, asked, backbone or list(layers), len(backbone or layers)))
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
    """Return the operators and nodes that the export left in float32 and said so."""
    if export is None:
        return frozenset()
    nodes = () if export.quantisation is None else export.quantisation.float_layers
    return frozenset(export.kept_in_float32) | {layer.node for layer in nodes}


def _is_excused(layer: ComputeLayer, excused: frozenset[str]) -> bool:
    return layer.dtype == "float32" and not excused.isdisjoint(
        (layer.name, *_OPERATORS[layer.kind])
    )


def _told(parsed: ParsedNetwork, asked: str, wrong: list[ComputeLayer], total: int) -> str:
    names = ", ".join(f"{layer.name} ({layer.dtype})" for layer in wrong[:_NAMED])
    more = f" and {len(wrong) - _NAMED} more" if len(wrong) > _NAMED else ""
    return (
        f"{parsed.source}: {asked} was asked for, but {len(wrong)} of {total} layers with weights "
        f"compute in another type: {names}{more}; export the checkpoint with --precision {asked}"
    )

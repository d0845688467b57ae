"""Export a network of any kind that contains GSP layers, or none, with certificate and manifest.

1. PyTorch's exporter translates the network, and `translation` the GSP layers in it.
2. The rest computes in the asked precision; cost, solver and pooling stay in float32.
3. Each layer is certified on the final graph, and folded into one node if a plugin shall run it.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from torch import Tensor, nn

from gsp_deploy.artifact import ExportManifest, SolverCertificate
from gsp_deploy.artifact.artifact import Artifact
from gsp_deploy.base.environment import package_versions
from gsp_deploy.base.progress import quiet
from gsp_deploy.config import AdoptedHead, ModelConfig, PreprocessingSpec, backbone_name
from gsp_deploy.errors import GspDeployError, UsageError, flattened, reason_of
from gsp_deploy.export.assembly import as_output, finish, prepend_preprocessing
from gsp_deploy.export.backbone import NATIVE_OPSET, keep_module_names, name_sizes
from gsp_deploy.export.calibration import Calibration, default_calibration
from gsp_deploy.export.certificate import certify
from gsp_deploy.export.costs import UNIT_PROTOTYPES
from gsp_deploy.export.graph import HEAD_SCOPE, in_head
from gsp_deploy.export.lowering import LOW_PRECISION, lower_precision
from gsp_deploy.export.model_file import spec_of, write_model
from gsp_deploy.export.open_sizes import check_open_sizes
from gsp_deploy.export.options import ExportOptions
from gsp_deploy.export.plan import NOTHING_TO_SOLVE, guarantee_of, locations_of
from gsp_deploy.export.plugin_node import Folding, drop_body
from gsp_deploy.export.source import EXPORT_PACKAGES, Source
from gsp_deploy.export.translation import TranslatedLayer, Translator
from gsp_deploy.precision import PRECISIONS

EMBEDDING = "embedding"
_NUMBERED = "output_{}"  # names of a plain tuple's tensors


def export_network(
    module: nn.Module,
    path: str | os.PathLike[str],
    example: Tensor,
    options: ExportOptions,
    preprocessing: PreprocessingSpec | None,
    calibration: Calibration | None,
    source: Source,
) -> Artifact[ExportManifest]:
    """Write a network from images to an embedding as ONNX; see `export_onnx`.

    Raises:
        UsageError: the example, the options or the outputs do not fit each other.
        GspDeployError: PyTorch cannot export the network, or no float32 result keeps the tolerance.
    """
    _check(module, example, options)
    spec = preprocessing or PreprocessingSpec(*example.shape[-2:])
    if (spec.height, spec.width) != tuple(example.shape[-2:]):
        raise UsageError(
            f"the example is of {example.shape[-2]}x{example.shape[-1]} pixels, and the "
            f"pre-processing gives {spec.height}x{spec.width}; pass one size"
        )
    named = _Named(module, example)
    network, layers = _translated(named, example, options)
    config = ModelConfig(backbone_name(type(module).__name__), _head_of(layers, network), spec)
    options.check_against(config)
    _require_one_body(layers, options)
    kept = _lower(network, options)
    if options.include_preprocessing:
        prepend_preprocessing(network.graph, config)
    outputs = network.graph.outputs
    outputs[:] = [
        as_output(network.graph, value, name, options)
        for value, name in zip(outputs, named.names, strict=True)
    ]
    finish(network, options)
    check_open_sizes(network, config)
    images = calibration or default_calibration(config)
    certificates = [_certificate(network, layer, images, options) for layer in layers]
    if options.pooling_form != "unrolled":
        _fold(network, layers)
    if options.pooling_form == "plugin-bare":
        drop_body(network)
    manifest = ExportManifest(
        model=config,
        precision=options.precision,
        opset=network.opset_imports[""],
        inputs=tuple(spec_of(value) for value in network.graph.inputs),
        outputs=tuple(spec_of(value) for value in network.graph.outputs),
        includes_preprocessing=options.include_preprocessing,
        certificate=certificates[0] if certificates else None,
        pooling_form=options.pooling_form,
        kept_in_float32=kept,
        versions=package_versions(EXPORT_PACKAGES),
        source_sha256=source.sha256,
        provenance=source.provenance or {},
        further_certificates=tuple(one for one in certificates[1:] if one is not None),
    )
    return write_model(network, Path(path), manifest, options.external_data)


class _Named(nn.Module):
    """A float32 copy of a network on the CPU that returns its tensors in a tuple, with names.

    The entry `embedding` of a dict or a named tuple, its only entry, or the first tensor of a plain
    tuple comes first and is called `embedding`.
    """

    def __init__(self, module: nn.Module, example: Tensor) -> None:
        super().__init__()
        self.network = copy.deepcopy(module).cpu().float().eval()
        with torch.no_grad():
            try:
                found = _tensors_of(self.network(example))
            except UsageError:
                raise
            except Exception as error:  # a network may raise any type
                raise GspDeployError(
                    f"{type(module).__name__} cannot embed an example of "
                    f"{'x'.join(map(str, example.shape))} ({flattened(error)}); pass images of "
                    "the size that it was trained on"
                ) from error
        if not found:
            raise UsageError(f"{type(module).__name__} returns no tensor; expected an embedding")
        first = EMBEDDING if EMBEDDING in found else next(iter(found))
        if first not in (EMBEDDING, _NUMBERED.format(0)) and len(found) > 1:
            raise UsageError(
                f"{type(module).__name__} returns {', '.join(found)}; name the entry that is the "
                f"embedding {EMBEDDING!r}"
            )
        self.keys = [first, *(key for key in found if key != first)]
        self.names = [EMBEDDING, *self.keys[1:]]
        if found[first].ndim != 2 or len(found[first]) != len(example):
            raise UsageError(
                f"{type(module).__name__} returns {first} of shape {tuple(found[first].shape)}; "
                f"expected one embedding per image, ({len(example)}, D)"
            )

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        found = _tensors_of(self.network(images))
        return tuple(found[key] for key in self.keys)


@dataclass(frozen=True)
class _Taps:
    """The values of a layer that its certificate compares."""

    embeddings: ir.Value
    weights: ir.Value
    prototypes: np.ndarray


def _check(module: nn.Module, example: Tensor, options: ExportOptions) -> None:
    name = type(module).__name__
    if not isinstance(example, Tensor) or example.ndim != 4 or example.shape[1] != 3:
        shape = tuple(getattr(example, "shape", ())) or type(example).__name__
        raise UsageError(f"expected example images (B, 3, H, W) as a tensor, got {shape}")
    if options.outputs:
        raise UsageError(
            f"{name} decides what it returns; leave the output {options.outputs[0]} out, or "
            "return it from the network"
        )
    if PRECISIONS[options.precision].quantised:
        raise UsageError(
            f"{options.precision} needs to know where {name}'s backbone ends; export "
            "EmbeddingModel.of(backbone, head, preprocessing)"
        )


def _tensors_of(output: Any) -> dict[str, Tensor]:
    """Return a network's tensors by name; those of a plain tuple are numbered."""
    if isinstance(output, Tensor):
        return {EMBEDDING: output}
    if hasattr(output, "_asdict"):
        output = output._asdict()
    if isinstance(output, Mapping):
        entries = {str(key): value for key, value in output.items()}
    elif isinstance(output, (tuple, list)):
        entries = {_NUMBERED.format(index): value for index, value in enumerate(output)}
    else:
        raise UsageError(f"expected a tensor, a tuple or a dict, got {type(output).__name__}")
    nested = [key for key, value in entries.items() if not isinstance(value, Tensor | None)]
    if nested:
        raise UsageError(
            f"the network's output {nested[0]!r} is a {type(entries[nested[0]]).__name__}; "
            "return tensors"
        )
    return {key: value for key, value in entries.items() if value is not None}


def _translated(
    named: _Named, example: Tensor, options: ExportOptions
) -> tuple[ir.Model, list[TranslatedLayer]]:
    translator = Translator("unrolled", options)
    dynamic: dict[int, object] = {}
    if options.dynamic_batch:
        dynamic[0] = torch.export.Dim("batch")
        if len(example) < 2:  # the exporter would fix a size of 1
            example = torch.cat([example, example])
    else:
        example = example[:1]
    if options.dynamic_size:
        dynamic |= {2: torch.export.Dim.AUTO, 3: torch.export.Dim.AUTO}
    with quiet():
        try:
            program = torch.onnx.export(
                named,
                (example.detach().cpu().float(),),
                dynamo=True,
                custom_translation_table=translator.table,
                opset_version=max(options.operator_set, NATIVE_OPSET),
                input_names=["images"],
                output_names=named.names,
                dynamic_shapes={"images": dynamic},
                verbose=False,
            )
        except Exception as error:  # the exporter's passes raise errors of any type
            raise _refusal(named, error) from error
    assert program is not None
    network = program.model
    keep_module_names(network)
    name_sizes(network, options.dynamic_batch, options.dynamic_size)
    _name_nodes(network)
    return network, translator.layers


def _refusal(named: _Named, error: BaseException) -> GspDeployError:
    cause = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    if isinstance(cause, GspDeployError):
        return cause
    return GspDeployError(
        f"PyTorch's ONNX exporter refused {type(named.network).__name__}: {reason_of(cause)}"
    )


def _name_nodes(network: ir.Model) -> None:
    """Give the heads' nodes the names of their values back, which a rewriting pass may drop."""
    for node in network.graph:
        name = node.outputs[0].name or ""
        if name.startswith(f"{HEAD_SCOPE}/"):
            node.name = name


def _head_of(layers: list[TranslatedLayer], network: ir.Model) -> Any:
    if layers:
        return layers[0].head
    shape = network.graph.outputs[0].shape
    assert shape is not None
    return AdoptedHead(embedding_dim=int(shape[1]))  # type: ignore[arg-type]


def _lower(network: ir.Model, options: ExportOptions) -> dict[str, str]:
    if options.precision not in LOW_PRECISION:
        return {}
    embeds = options.operator_set >= PRECISIONS[options.precision].conv_opset

    def is_lowered(node: ir.Node) -> bool:
        return not in_head(node) or (embeds and (node.name or "").endswith("/embed"))

    return lower_precision(network, options.precision, takes_part=is_lowered)


def _certificate(
    network: ir.Model, layer: TranslatedLayer, images: Calibration, options: ExportOptions
) -> SolverCertificate | None:
    if layer.plan == NOTHING_TO_SOLVE:
        return None
    twin = network.clone()
    taps = _taps_of(twin, layer)
    twin.graph.outputs.extend((taps.embeddings, taps.weights))
    guarantee = tolerance = None
    if options.iterations is None and layer.plan.solver == "certified":
        locations, tolerance = locations_of(taps.weights), options.tolerance
        guarantee = guarantee_of(layer.plan, layer.head, taps.prototypes, locations, options)
    return certify(twin, layer.head, taps.prototypes, layer.plan, images, tolerance, guarantee)


def _taps_of(network: ir.Model, layer: TranslatedLayer) -> _Taps:
    nodes = {node.name: node for node in network.graph}
    unit = network.graph.initializers[f"{layer.root}/const/{UNIT_PROTOTYPES}"].const_value
    embeddings = nodes[f"{layer.root}/length"].inputs[0]
    assert unit is not None
    assert embeddings is not None
    return _Taps(embeddings, nodes[f"{layer.root}/weights"].outputs[0], unit.numpy())


def _require_one_body(layers: list[TranslatedLayer], options: ExportOptions) -> None:
    """Refuse several bodies: TensorRT's parser gives all nodes of one name the same body."""
    count = sum(layer.plan != NOTHING_TO_SOLVE for layer in layers)
    if options.pooling_form == "plugin" and count > 1:
        raise UsageError(
            f"the network has {count} GSP layers, and TensorRT would give their nodes one body; "
            "export it with plugin-bare (--pooling plugin --bare), or unrolled"
        )


def _fold(network: ir.Model, layers: list[TranslatedLayer]) -> None:
    for layer in layers:
        if layer.plan != NOTHING_TO_SOLVE:
            Folding(network, layer.head, layer.plan, layer.outputs, layer.root).run()

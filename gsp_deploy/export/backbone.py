"""Export the backbone as an ONNX graph with PyTorch's own exporter; batch norms are folded."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping

import numpy as np
import onnx_ir as ir
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from gsp_deploy.backbones.features import feature_map
from gsp_deploy.base.progress import quiet
from gsp_deploy.config import ModelConfig
from gsp_deploy.errors import GspDeployError, reason_of
from gsp_deploy.export.graph import IR_VERSION
from gsp_deploy.export.head import HeadParameters
from gsp_deploy.export.other_size import other_size
from gsp_deploy.layers import BaselinePooling, GeneralizedSumPooling
from gsp_deploy.model import EmbeddingModel, run_backbone

# PyTorch's exporter writes this operator set natively and converts upwards from it.
NATIVE_OPSET = 18
EXAMPLE_BATCH = 2
# The exporter stores under this name which PyTorch module a node comes from.
MODULE_NAMES = "pkg.torch.onnx.name_scopes"


class _Features(nn.Module):
    """The backbone alone, a copy in float32 on the CPU: the caller's model stays as it is."""

    def __init__(self, model: EmbeddingModel) -> None:
        super().__init__()
        self.backbone = copy.deepcopy(model.backbone).cpu().float().eval()
        for module in self.backbone.modules():
            # timm's switch; the exporter takes fused attention with four axes only.
            if hasattr(module, "fused_attn"):
                module.fused_attn = False

    def forward(self, images: Tensor) -> Tensor:
        return feature_map(self.backbone, images)


def export_backbone(
    model: EmbeddingModel, opset: int, dynamic_batch: bool, dynamic_size: bool
) -> ir.Model:
    """Return an ONNX model from `images (B, 3, H, W)` float32 to `features (B, C, h, w)`.

    A head alone has no backbone: its input is called `features`, has any height and width, and is
    returned unchanged.

    Raises:
        ConfigError: the backbone fails on images of this size, or its output has no locations.
        GspDeployError: PyTorch cannot export the backbone, its features have another number of
            channels than the head takes, or the options ask for open sizes and the backbone takes
            no other size than its own.
    """
    if model.config.is_head_only:
        return _features_only(model.config.trained_head.in_channels, opset, dynamic_batch)
    spec = model.config.preprocessing
    assert spec is not None
    images = torch.zeros(EXAMPLE_BATCH if dynamic_batch else 1, 3, spec.height, spec.width)
    dynamic: dict[int, object] = {}
    if dynamic_batch:
        dynamic[0] = torch.export.Dim("batch")
    if dynamic_size:
        dynamic |= {2: torch.export.Dim.AUTO, 3: torch.export.Dim.AUTO}
    backbone = _Features(model)
    with torch.no_grad():  # a size that the backbone does not take is refused in its own words
        run_backbone(model.config.backbone, backbone.backbone, images)
    other = other_size(backbone.backbone, model.config, len(images)) if dynamic_size else None
    with quiet(), sdpa_kernel(SDPBackend.MATH):  # fused ones return strides that no graph has
        try:
            program = torch.onnx.export(
                backbone,
                (images,),
                dynamo=True,
                opset_version=max(opset, NATIVE_OPSET),
                input_names=["images"],
                output_names=["features"],
                dynamic_shapes={"images": dynamic},
                verbose=False,
            )
        except Exception as error:  # the exporter's passes raise errors of any type
            raise GspDeployError(
                f"PyTorch's ONNX exporter refused the backbone {model.config.backbone}: "
                f"{reason_of(error.__cause__ or error)}"
            ) from error
    assert program is not None
    _check_feature_map(program.model.graph.outputs[0], model.config, dynamic_size)
    keep_module_names(program.model)
    network = name_sizes(program.model, dynamic_batch, dynamic_size)
    if other is not None:
        other.require_same(network, model.config)
    return network


def head_parameters(head: GeneralizedSumPooling | BaselinePooling) -> HeadParameters:
    """Copy a head's parameters out as float32 arrays.

    Raises:
        GspDeployError: the power of the generalised mean is 0, where the mean is undefined.
    """
    prototypes = head.prototypes if isinstance(head, GeneralizedSumPooling) else None
    power = None if head.power is None else head.power.item()
    if power == 0:
        raise GspDeployError("the head's generalised mean has the power 0; train or set it above 0")
    return HeadParameters(
        embed_weight=_array(head.embed.weight),
        embed_bias=None if head.embed.bias is None else _array(head.embed.bias),
        prototypes=None if prototypes is None else _array(prototypes),
        power=power,
    )


def _features_only(channels: int, opset: int, dynamic_batch: bool) -> ir.Model:
    shape = ir.Shape(["batch" if dynamic_batch else 1, channels, "height", "width"])
    features = ir.Value(name="features", shape=shape, type=ir.TensorType(ir.DataType.FLOAT))
    graph = ir.Graph(
        [features],
        [features],
        nodes=[],
        opset_imports={"": max(opset, NATIVE_OPSET)},
        name="main_graph",
    )
    return ir.Model(graph, ir_version=IR_VERSION)


def _check_feature_map(features: ir.Value, config: ModelConfig, dynamic_size: bool) -> None:
    shape = () if features.shape is None else tuple(features.shape)
    channels = config.trained_head.in_channels
    if len(shape) != 4 or shape[1] != channels:
        raise GspDeployError(
            f"backbone {config.backbone} yields ({', '.join(map(str, shape))}), but the head pools "
            f"(batch, {channels}, height, width)"
        )
    if dynamic_size and any(isinstance(size, int) for size in shape[2:]):
        raise GspDeployError(
            f"backbone {config.backbone} is made for one image size (its feature map is always "
            f"{shape[2]}x{shape[3]}); export it without --dynamic-size"
        )


def keep_module_names(model: ir.Model) -> None:
    """Remove the exporter's notes on its own run, such as stack traces with this machine's paths.

    The names of the PyTorch modules stay: they say where a node comes from.
    """
    model.metadata_props.clear()
    model.graph.metadata_props.clear()
    for node in model.graph.all_nodes():
        module = node.metadata_props.get(MODULE_NAMES)
        node.metadata_props.clear()
        if module is not None:
            node.metadata_props[MODULE_NAMES] = module
        for value in node.outputs:
            value.metadata_props.clear()


def name_sizes(model: ir.Model, dynamic_batch: bool, dynamic_size: bool) -> ir.Model:
    """Name the open sizes after what they are, and rename them in sizes computed from them."""
    images = model.graph.inputs[0]
    assert images.shape is not None
    named = {0: "batch"} if dynamic_batch else {}
    if dynamic_size:
        named |= {2: "height", 3: "width"}
    symbols = {str(images.shape[axis]): name for axis, name in named.items()}
    for value in (images, *(value for node in model.graph for value in node.outputs)):
        if value.shape is not None:
            value.shape = ir.Shape([_renamed(size, symbols) for size in value.shape])
    return model


def _renamed(size: int | ir.SymbolicDim, symbols: Mapping[str, str]) -> int | str | None:
    if isinstance(size, int):
        return size
    if size.value is None:
        return None
    return re.sub(r"\w+", lambda word: symbols.get(word[0], word[0]), size.value)


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().float().numpy().copy()

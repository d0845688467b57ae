"""The backbone as an ONNX graph, by PyTorch's own exporter, with batch norms folded."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings

import numpy as np
import onnx_ir as ir
import torch
from torch import Tensor, nn

from gsp_deploy.errors import GspDeployError
from gsp_deploy.export.head import HeadParameters
from gsp_deploy.layers import BaselinePooling, GeneralizedSumPooling
from gsp_deploy.model import EmbeddingModel

# PyTorch's exporter writes this operator set natively and converts upwards from it.
NATIVE_OPSET = 18
EXAMPLE_BATCH = 2


class _Features(nn.Module):
    def __init__(self, model: EmbeddingModel) -> None:
        super().__init__()
        self.backbone = model.backbone

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.backbone.forward_features(images)
        return features


def export_backbone(
    model: EmbeddingModel, opset: int, dynamic_batch: bool, dynamic_size: bool
) -> ir.Model:
    """Return an ONNX model from `images (B, 3, H, W)` float32 to `features (B, C, h, w)`.

    A head alone has no backbone: there the input is called `features`, of any height and width,
    and is passed on.
    """
    if model.config.is_head_only:
        return _features_only(model.config.head.in_channels, opset, dynamic_batch)
    spec = model.config.preprocessing
    assert spec is not None
    images = torch.zeros(EXAMPLE_BATCH if dynamic_batch else 1, 3, spec.height, spec.width)
    dynamic: dict[int, object] = {}
    if dynamic_batch:
        dynamic[0] = torch.export.Dim("batch")
    if dynamic_size:
        dynamic |= {2: torch.export.Dim.AUTO, 3: torch.export.Dim.AUTO}
    with _quiet():
        try:
            program = torch.onnx.export(
                _Features(model).eval(),
                (images,),
                dynamo=True,
                opset_version=max(opset, NATIVE_OPSET),
                input_names=["images"],
                output_names=["features"],
                dynamic_shapes={"images": dynamic},
                verbose=False,
            )
        except Exception as error:  # the exporter raises whatever its passes meet
            raise GspDeployError(
                f"PyTorch's ONNX exporter refused the backbone {model.config.backbone}: "
                f"{str(error).splitlines()[0]}"
            ) from error
    assert program is not None
    return _name_sizes(program.model, dynamic_batch, dynamic_size)


def head_parameters(head: GeneralizedSumPooling | BaselinePooling) -> HeadParameters:
    """Copy a head's parameters out as float32 arrays."""
    prototypes = head.prototypes if isinstance(head, GeneralizedSumPooling) else None
    return HeadParameters(
        embed_weight=_array(head.embed.weight),
        embed_bias=None if head.embed.bias is None else _array(head.embed.bias),
        prototypes=None if prototypes is None else _array(prototypes),
        power=None if head.power is None else float(head.power),
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
    return ir.Model(graph, ir_version=10)


def _name_sizes(model: ir.Model, dynamic_batch: bool, dynamic_size: bool) -> ir.Model:
    """Call the input's open sizes by what they are."""
    images = model.graph.inputs[0]
    assert images.shape is not None
    shape = list(images.shape)
    if dynamic_batch:
        shape[0] = ir.SymbolicDim("batch")
    if dynamic_size:
        shape[2:] = [ir.SymbolicDim("height"), ir.SymbolicDim("width")]
    images.shape = ir.Shape(shape)
    return model


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().float().numpy().copy()


@contextlib.contextmanager
def _quiet():  # type: ignore[no-untyped-def]
    """Keep the exporter's progress chatter off the user's terminal."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)

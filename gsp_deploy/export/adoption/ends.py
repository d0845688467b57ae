"""Give the ends of a network the names, layouts and open sizes of an export of gsp-deploy.

The input becomes `images`: normalised floats `(B, 3, H, W)`, or uint8 pixels `(B, H, W, 3)` of a
network that normalises itself. The output becomes `embedding (B, D)`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir

from gsp_deploy.base.elements import ELEMENTS
from gsp_deploy.config import PreprocessingSpec
from gsp_deploy.errors import ModelFileError, UsageError
from gsp_deploy.export.adoption.reading import described
from gsp_deploy.export.graph import GraphScope
from gsp_deploy.images.normalisation import normalise

IMAGES, EMBEDDING = "images", "embedding"
_TO_CHANNELS_FIRST, _TO_CHANNELS_LAST = (0, 3, 1, 2), (0, 2, 3, 1)
_FLOATS = tuple(ELEMENTS[name] for name in ("float32", "float16", "bfloat16"))
_PIXELS = ir.DataType.UINT8
# Opset that moved the axes of reductions from an attribute to an input.
_AXES_AS_INPUT = 18
# Zero stays zero; nothing else changes in float32.
_LEAST_LENGTH = 1e-12


@dataclass(frozen=True)
class ImageInput:
    """The input of a network as its file has it.

    Attributes:
        value: the graph's input.
        channels_last: whether it is `(B, H, W, 3)` and not `(B, 3, H, W)`.
        batch, height, width: its sizes; None if they are open.
    """

    value: ir.Value
    channels_last: bool
    batch: int | None
    height: int | None
    width: int | None

    @property
    def takes_pixels(self) -> bool:
        """Whether the network takes uint8 pixels and normalises them itself."""
        return self.value.dtype == _PIXELS

    @property
    def size(self) -> tuple[int, int] | None:
        """Height and width; None if one of them is open."""
        if self.height is None or self.width is None:
            return None
        return self.height, self.width

    def settle(self, spec: PreprocessingSpec, path: Path) -> PreprocessingSpec:
        """Return the pre-processing that goes before this input.

        A network that takes pixels gets them unchanged: mean 0 and std 1/255.

        Raises:
            UsageError: the network has one size, and it is another.
        """
        for own, given in ((self.height, spec.height), (self.width, spec.width)):
            if own is not None and own != given:
                size = f"{self.height or 'any'}x{self.width or 'any'}"
                raise UsageError(
                    f"{path} takes images of {size} (height x width), got a size of "
                    f"{spec.height}x{spec.width}; pass --size {size}, or leave it out"
                )
        if not self.takes_pixels:
            return spec
        return PreprocessingSpec(
            **{**vars(spec), "mean": (0.0, 0.0, 0.0), "std": (1 / 255, 1 / 255, 1 / 255)}
        )

    def feed(self, pixels: np.ndarray, spec: PreprocessingSpec) -> np.ndarray:
        """Return uint8 images `(B, H, W, 3)` in the layout and type that the file takes."""
        if self.takes_pixels:
            return pixels if self.channels_last else pixels.transpose(_TO_CHANNELS_FIRST)
        images = normalise(pixels, spec)
        return images.transpose(_TO_CHANNELS_LAST) if self.channels_last else images


def image_input(network: ir.Model, path: Path) -> ImageInput:
    """Return the network's only input.

    Raises:
        UsageError: there is not exactly one input, or it does not take RGB images.
    """
    inputs = list(network.graph.inputs)
    if len(inputs) != 1:
        raise UsageError(
            f"{path}: expected one input of images for this output, found {described(inputs)}"
        )
    value = inputs[0]
    sizes = () if value.shape is None else value.shape.dims
    taken = {_PIXELS, *(ir.DataType[element.onnx] for element in _FLOATS)}
    if value.dtype not in taken or len(sizes) != 4:
        raise UsageError(
            f"{path}: expected an input of images, float32, float16 or uint8, as (batch, 3, "
            f"height, width) or (batch, height, width, 3), found {described(inputs)}"
        )
    channels_last = sizes[1] != 3 and sizes[3] == 3
    order = (0, 1, 2, 3) if channels_last else (0, 2, 3, 1)
    batch, height, width, channels = (_known(sizes[axis]) for axis in order)
    if channels not in (3, None):
        raise UsageError(
            f"{path}: expected images of 3 channels, RGB, found {described(inputs)}; gsp-deploy "
            "prepares RGB images only"
        )
    return ImageInput(value, channels_last, batch, height, width)


def take_images(network: ir.Model, source: ImageInput) -> None:
    """Make `images` the network's input, in the layout of an export, with the file's own sizes."""
    graph, old = network.graph, source.value
    _free(graph, IMAGES, old)
    sizes = [
        "batch" if source.batch is None else source.batch,
        "height" if source.height is None else source.height,
        "width" if source.width is None else source.width,
    ]
    sizes.insert(3 if source.takes_pixels else 1, 3)
    if source.channels_last == source.takes_pixels:
        old.name, old.shape = IMAGES, ir.Shape(sizes)
        return
    order = _TO_CHANNELS_FIRST if source.takes_pixels else _TO_CHANNELS_LAST
    images = ir.Value(name=IMAGES, shape=ir.Shape(sizes), type=old.type)
    old.name = "io/own_images"
    uses = list(old.uses())
    turned = GraphScope(graph, "io").op("Transpose", images, name="images_turned", perm=order)
    turned.type = old.type
    for use in uses:
        use.node.replace_input_with(use.idx, turned)
    graph.inputs[:] = [images]


def give_embedding(network: ir.Model, shape: tuple[int, ...], normalize: bool, path: Path) -> int:
    """Make `embedding (B, D)` the network's output, and return D.

    Args:
        network: with one output.
        shape: of that output, from a run.
        normalize: whether to append an L2 normalisation.
        path: the file, for messages.

    Raises:
        ModelFileError: the output is not one vector per image.
    """
    graph = network.graph
    result = graph.outputs[0]
    dim = _vector_length(shape, result, path)
    _free(graph, EMBEDDING, result)
    dtype, scope = result.dtype, GraphScope(graph, "io")
    if len(shape) > 2:
        result = scope.op("Flatten", result, name="vector", axis=1)
    if normalize:
        result = _normalised(scope, result, dtype, network.opset_imports[""])
    if result.producer() is None:  # the output is the input itself, or a constant
        result = scope.op("Identity", result, name="vector")
    batch = graph.inputs[0].shape
    assert batch is not None
    assert dtype is not None
    result.name, result.dtype, result.shape = EMBEDDING, dtype, ir.Shape([batch[0], dim])
    graph.outputs[:] = [result]
    return dim


def _vector_length(shape: tuple[int, ...], result: ir.Value, path: Path) -> int:
    """Return D of `(B, D)`, or of a shape with further sizes that are all 1."""
    if result.dtype not in {ir.DataType[element.onnx] for element in _FLOATS}:
        raise ModelFileError(
            f"{path}: expected an embedding of floats, found {described([result])}; choose another "
            "output with --output"
        )
    long = [size for size in shape[1:] if size != 1]
    if len(shape) >= 2 and len(long) <= 1:
        return long[0] if long else 1
    form = {3: "a set of tokens", 4: "a feature map"}.get(len(shape), "no vector per image")
    raise ModelFileError(
        f"{path}: output {result.name} is {form}, of shape {shape}, and adopt pools nothing; "
        "choose an output (batch, D) with --output, or export the network with its pooling"
    )


def _normalised(
    scope: GraphScope, vector: ir.Value, dtype: ir.DataType | None, opset: int
) -> ir.Value:
    is_low = dtype is not None and dtype != ir.DataType.FLOAT
    if is_low:
        vector = scope.op("Cast", vector, name="vector_float", to=int(ir.DataType.FLOAT))
    length = (
        scope.reduce("ReduceL2", vector, (1,), name="length")
        if opset >= _AXES_AS_INPUT
        else scope.op("ReduceL2", vector, name="length", axes=(1,), keepdims=1)
    )
    least = scope.constant("least_length", _LEAST_LENGTH)
    length = scope.op("Add", length, least, name="length_above_zero")
    vector = scope.op("Div", vector, length, name="unit_vector")
    if is_low:
        assert dtype is not None
        vector = scope.op("Cast", vector, name="unit_vector_low", to=int(dtype))
    return vector


def _free(graph: ir.Graph, name: str, rightful: ir.Value) -> None:
    """Rename every other value of this name, also inside control flow."""
    values = [
        *graph.inputs,
        *graph.initializers.values(),
        *(value for node in graph.all_nodes() for value in node.outputs),
    ]
    for value in values:
        if value.name == name and value is not rightful:
            value.name = f"{name}/own"


def _known(size: int | ir.SymbolicDim) -> int | None:
    return size if isinstance(size, int) and size > 0 else None

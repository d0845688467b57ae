"""Find BN-Inception in the graph of a Keras file, whatever its layers are called.

The authors' own file has never been seen here, but every Keras file has the graph. From the output
back to the input it must be the network of `gsp_deploy/backbones/bn_inception.py`, with a padding
that is the same for images of any size: ZeroPadding2D before a layer without padding. `same` is
taken only where it means that too.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from gsp_deploy.backbones.bn_inception import BLOCKS
from gsp_deploy.checkpoint.keras_graph import Layer, Network
from gsp_deploy.errors import CheckpointError

EPSILON = 1e-5  # of our batch norm; a file with another one gets other variances
_NORM = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean"}
# Settings of a convolution, with which it is a plain one.
_PLAIN = {"activation": "linear", "dilation_rate": 1, "groups": 1, "data_format": "channels_last"}
_ROUND_UP = (0, 1, 0, 1)  # the padding that makes a pooling of stride 2 round its size up


class BNInceptionReader:
    """Walks from the output to the input and collects the weights of each convolution."""

    def __init__(self, network: Network, arrays: Mapping[str, Tensor], path: object) -> None:
        self._network, self._arrays, self._path = network, arrays, path
        self._state: dict[str, Tensor] = {}

    def state(self) -> dict[str, Tensor]:
        """Return the state dict of `BNInception`, for RGB images where the file takes BGR.

        Raises:
            CheckpointError: a layer is not the expected one, or lacks weights.
        """
        x = self._network.layers[self._network.output]
        for name in reversed(BLOCKS):
            x = self._block(f"inception_{name}", x)
        x = self._unit("conv2_3x3", self._pooling(x, "MaxPooling2D", stride=2), kernel=3)
        x = self._unit("conv2_3x3_reduce", x, kernel=1)
        x = self._unit("conv1_7x7_s2", self._pooling(x, "MaxPooling2D", stride=2), 7, stride=2)
        self._expect(x, "InputLayer")
        first = "conv1_7x7_s2.weight"
        self._state[first] = self._state[first].flip(1)
        return self._state

    def _block(self, name: str, x: Layer) -> Layer:
        """Collect a block's weights; return the layer that feeds it."""
        widths = BLOCKS[name.removeprefix("inception_")]
        stride = 2 if widths.pool == "pass" else 1
        self._expect(x, "Concatenate")
        branches = [self._network.layers[source] for source in x.sources]
        if len(branches) != 4 - (not widths.plain):
            raise self._unexpected(x, f"{4 - (not widths.plain)} branches", f"{len(branches)}")
        feeding = []
        if widths.plain:
            feeding.append(self._unit(f"{name}_1x1", branches.pop(0), 1))
        single, double, pooled = branches
        single = self._unit(f"{name}_3x3", single, 3, stride)
        feeding.append(self._unit(f"{name}_3x3_reduce", single, 1))
        double = self._unit(f"{name}_double_3x3_2", double, 3, stride)
        double = self._unit(f"{name}_double_3x3_1", double, 3)
        feeding.append(self._unit(f"{name}_double_3x3_reduce", double, 1))
        if widths.pooled:
            pooled = self._unit(f"{name}_pool_proj", pooled, 1)
        kind = "AveragePooling2D" if widths.pool == "average" else "MaxPooling2D"
        feeding.append(self._pooling(pooled, kind, stride))
        for other in feeding[1:]:
            if other != feeding[0]:
                raise self._unexpected(x, f"branches of one layer, {feeding[0]}", str(other))
        return feeding[0]

    def _unit(self, name: str, x: Layer, kernel: int, stride: int = 1) -> Layer:
        """Collect a convolution and its batch norm; return the layer that feeds them."""
        if x.kind == "Activation" and x.settings.get("activation") == "relu":
            norm = self._source(x)
        else:
            self._expect(x, "ReLU")
            norm = self._source(x)
        self._expect(norm, "BatchNormalization")
        convolution = self._source(norm)
        self._expect(convolution, "Conv2D")
        for setting, usual in _PLAIN.items():
            if (found := convolution.settings.get(setting, usual)) not in (usual, [usual, usual]):
                raise self._unexpected(convolution, f"{setting} {usual!r}", f"{found!r}")
        source = self._unpadded(convolution, "kernel_size", kernel, stride, (kernel // 2,) * 4)
        self._take(name, convolution, norm)
        return source

    def _pooling(self, x: Layer, kind: str, stride: int) -> Layer:
        self._expect(x, kind)
        padding = (1,) * 4 if stride == 1 else _ROUND_UP
        return self._unpadded(x, "pool_size", 3, stride, padding)

    def _unpadded(
        self, x: Layer, size: str, kernel: int, stride: int, padding: tuple[int, ...]
    ) -> Layer:
        """Check a layer's geometry; return the layer before it and before its padding."""
        found = (x.side(size), x.side("strides", 1 if x.kind == "Conv2D" else kernel))
        if found != (kernel, stride):
            raise self._unexpected(x, f"size and stride {(kernel, stride)}", f"{found}")
        source, way = self._source(x), x.settings["padding"]
        if source.kind == "ZeroPadding2D" and source.padded == padding and way == "valid":
            return self._source(source)
        # `same` of an average does not count the zeros, and of stride 2 depends on the size.
        is_same = way == "same" and stride == 1 and x.kind != "AveragePooling2D"
        if is_same or not any(padding):
            return source
        raise self._unexpected(
            x, f"ZeroPadding2D of {padding} before it", f"{source} and padding {way!r}"
        )

    def _take(self, name: str, convolution: Layer, norm: Layer) -> None:
        kernel = self._array(convolution, "kernel")
        self._state[f"{name}.weight"] = kernel.permute(3, 2, 0, 1).contiguous()
        if convolution.settings["use_bias"]:
            self._state[f"{name}.bias"] = self._array(convolution, "bias")
        else:
            self._state[f"{name}.bias"] = torch.zeros(kernel.shape[-1])
        for theirs, ours in _NORM.items():
            self._state[f"{name}_bn.{ours}"] = self._array(norm, theirs)
        variance = self._array(norm, "moving_variance")
        self._state[f"{name}_bn.running_var"] = variance + (norm.settings["epsilon"] - EPSILON)

    def _array(self, layer: Layer, part: str) -> Tensor:
        found = self._arrays.get(f"{self._network.name}/{layer.name}/{part}:0")
        if found is None:
            raise CheckpointError(f"{self._path}: {layer} has no array {part}")
        return found

    def _source(self, layer: Layer) -> Layer:
        if len(layer.sources) != 1:
            raise self._unexpected(layer, "one source", f"{len(layer.sources)}")
        return self._network.layers[layer.sources[0]]

    def _expect(self, layer: Layer, kind: str) -> None:
        if layer.kind != kind:
            raise self._unexpected(layer, kind, layer.kind)

    def _unexpected(self, layer: Layer, expected: str, found: str) -> CheckpointError:
        return CheckpointError(
            f"{self._path}: {self._network.name} is neither Keras's ResNet-50 nor a BN-Inception "
            f"with the Caffe port's layers, which are read: at {layer.name} expected {expected}, "
            f"found {found}"
        )

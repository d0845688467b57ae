"""The `.h5` files of the authors' framework, made without it: JSON, names and random weights."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from gsp_deploy.backbones.bn_inception import BLOCKS

DIM, PROTOTYPES = 16, 8
HEAD = {
    "memory_size": 1024,
    "support_size": PROTOTYPES,
    "binary_costs": "l2",
    "normalization": "l2",
    "transport_ratio": 0.3,
    "entropy_regularizer_weight": 5.0,
    "optimization_steps": 100,
    "augment_max_pool": True,
    "use_gemp": False,
}
Shapes = dict[str, tuple[int, ...]]


def head_shapes(channels: int) -> Shapes:
    """Names and shapes of the head's weights below `model_weights`."""
    return {
        "EmbeddingHead/feature_transform/kernel:0": (1, 1, channels, DIM),
        "EmbeddingHead/partial_transport/partial_transport/target_support:0": (PROTOTYPES, DIM),
    }


def filled(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The weights that were recorded: random numbers whose seed is the array's name."""
    draw = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape)
    numbers, part = draw.astype(np.float32), name.rpartition("/")[2]
    if part == "kernel:0":
        return numbers * np.float32(np.sqrt(2 / np.prod(shape[:-1])))
    if part == "gamma:0":
        return 1 + numbers / 10
    if part == "moving_variance:0":
        return 1 + abs(numbers) / 10
    return numbers / 10


def save(path: Path, names: Shapes, backbone: dict[str, Any], **head: object) -> Path:
    """Write the file of a model with this backbone and these weights."""
    layers = [
        {"class_name": "InputLayer", "config": {"name": "Input"}},
        {"class_name": "Functional", "config": backbone},
        {"class_name": "Custom>GeneralizedSumPooling", "config": {**HEAD, **head}},
    ]
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = json.dumps({"config": {"layers": layers}})
        weights = file.create_group("model_weights")
        for name, shape in names.items():
            weights[name] = filled(name, shape)
    return path


class BNInceptionFile:
    """A Keras BN-Inception: `config` is its JSON, and `shapes` its weights.

    Layers are numbered, so that nothing can be read from their names. `changes` replaces settings
    of layers, by their names.
    """

    NAME = "BN-Inception"

    def __init__(self, **changes: dict[str, Any]) -> None:
        self.changes, self.layers, self.shapes = changes, [], head_shapes(1024)
        first = self.add("InputLayer", batch_input_shape=[None, None, None, 3], dtype="float32")
        x, channels = self.unit(first, 3, 64, 7, 2), 64
        x = self.unit(self.halved(x), channels, 64, 1)
        x, channels = self.halved(self.unit(x, 64, 192, 3)), 192
        for widths in BLOCKS.values():
            stride = 2 if widths.pool == "pass" else 1
            branches = [self.unit(x, channels, widths.plain, 1)] if widths.plain else []
            single = self.unit(x, channels, widths.reduced, 1)
            branches.append(self.unit(single, widths.reduced, widths.single, 3, stride))
            double = self.unit(x, channels, widths.double_reduced, 1)
            double = self.unit(double, widths.double_reduced, widths.double, 3)
            branches.append(self.unit(double, widths.double, widths.double, 3, stride))
            if widths.pool == "pass":
                branches.append(self.halved(x))
            else:
                kind = "AveragePooling2D" if widths.pool == "average" else "MaxPooling2D"
                branches.append(self.unit(self.pooled(x, kind), channels, widths.pooled, 1))
            channels = widths.plain + widths.single + widths.double + (widths.pooled or channels)
            x = self.add("Concatenate", *branches, axis=-1)
        self.config = {
            "name": self.NAME,
            "layers": self.layers,
            "input_layers": [[first, 0, 0]],
            "output_layers": [[x, 0, 0]],
        }

    def add(self, kind: str, *sources: str, **settings: Any) -> str:
        """Append a layer; return its name."""
        name = f"l{len(self.layers)}"
        settings = {"name": name, **settings, **self.changes.get(name, {})}
        inbound = [[[source, 0, 0, {}] for source in sources]] if sources else []
        self.layers.append(
            {"class_name": kind, "name": name, "config": settings, "inbound_nodes": inbound}
        )
        return name

    def unit(self, x: str, inside: int, outside: int, kernel: int, stride: int = 1) -> str:
        """Append a convolution with its batch norm and rectifier."""
        if stride == 2:
            x = self.padded(x, kernel // 2, kernel // 2)
        x = self.add(
            "Conv2D",
            x,
            filters=outside,
            kernel_size=[kernel, kernel],
            strides=[stride, stride],
            padding="valid" if stride == 2 else "same",
            use_bias=kernel > 1,
        )
        self.shapes[f"{self.NAME}/{x}/kernel:0"] = (kernel, kernel, inside, outside)
        if kernel > 1:
            self.shapes[f"{self.NAME}/{x}/bias:0"] = (outside,)
        x = self.add("BatchNormalization", x, epsilon=0.001)
        for part in ("gamma", "beta", "moving_mean", "moving_variance"):
            self.shapes[f"{self.NAME}/{x}/{part}:0"] = (outside,)
        return self.add("Activation", x, activation="relu")

    def halved(self, x: str) -> str:
        """Append a pooling of stride 2 whose size rounds up."""
        return self.pooling(self.padded(x, 0, 1), "MaxPooling2D", 2, "valid")

    def pooled(self, x: str, kind: str) -> str:
        """Append a pooling of stride 1; an average counts the zeros around the map."""
        if kind == "MaxPooling2D":
            return self.pooling(x, kind, 1, "same")
        return self.pooling(self.padded(x, 1, 1), kind, 1, "valid")

    def pooling(self, x: str, kind: str, stride: int, padding: str) -> str:
        """Append a pooling of 3 x 3."""
        return self.add(kind, x, pool_size=[3, 3], strides=[stride, stride], padding=padding)

    def padded(self, x: str, before: int, after: int) -> str:
        """Append zeros around a map."""
        return self.add("ZeroPadding2D", x, padding=[[before, after], [before, after]])

    def save(self, path: Path) -> Path:
        """Write the file."""
        return save(path, self.shapes, self.config)

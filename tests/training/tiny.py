"""Tiny images of distinct classes, and recipes that train on them quickly."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from gsp_deploy.data.images import Dataset, LabelledImages
from gsp_deploy.training.recipe import Recipe, parse_recipe

SIDE = 16

RECIPE: dict[str, Any] = {
    "model": {"backbone": "small_cnn_s8", "backbone_options": {"width": 4}},
    "head": {"kind": "gsp", "embedding_dim": 8},
    "gsp": {"num_prototypes": 4},
    "preprocessing": {"height": SIDE, "width": SIDE},
    "data": {"spec": "patches", "validation_fraction": 0.25},
    "loss": {"kind": "proxy-anchor"},
    "sampler": {"batch_size": 8, "images_per_class": 4},
    "optimiser": {"lr": 0.003},
    "run": {"steps": 4, "evaluate_every": 2, "tensorboard": False, "threads": 1, "device": "cpu"},
}


@dataclass(frozen=True)
class Patches:
    """Class c is a colour with noise on it; image k of a class has noise of its own."""

    images_per_class: int

    @property
    def parameters(self) -> dict[str, str | int | float]:
        return {"kind": "patches", "images_per_class": self.images_per_class}

    def image(self, position: int) -> Image.Image:
        colour = np.random.default_rng(position // self.images_per_class).integers(40, 216, 3)
        noise = np.random.default_rng([7, position]).integers(-30, 31, (SIDE, SIDE, 3))
        return Image.fromarray((colour + noise).astype(np.uint8))


def patches(classes: int = 8, images_per_class: int = 6) -> Dataset:
    count = classes * images_per_class
    images = LabelledImages(
        Patches(images_per_class),
        np.arange(count),
        tuple(f"{i}.png" for i in range(count)),
        np.repeat(np.arange(classes), images_per_class),
        tuple(f"class {c}" for c in range(classes)),
    )
    return Dataset("patches", images, images.subset([]))


def recipe_with(**changes: Any) -> Recipe:
    """Return the tiny recipe with settings changed: `loss__kind="triplet"`, `run__steps=2`."""
    data = copy.deepcopy(RECIPE)
    for name, value in changes.items():
        section, _, key = name.partition("__")
        if key:
            data.setdefault(section, {})[key] = value
        else:
            data[section] = value
    return parse_recipe(data)

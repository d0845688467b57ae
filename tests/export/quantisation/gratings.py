"""Images and networks to try int8 on: the untrained networks still distinguish the images."""

from __future__ import annotations

import math

import numpy as np
import torch

from gsp_deploy import EmbeddingModel, GSPConfig, ModelConfig, PreprocessingSpec
from gsp_deploy.export.calibration import Calibration
from gsp_deploy.export.quantisation import QuantisationImages
from gsp_deploy.export.transport import SolverPlan

SIDE = 32
SPEC = PreprocessingSpec(SIDE, SIDE)
CLASSES, EACH = 6, 6
LABELS = np.repeat(np.arange(CLASSES), EACH)
PLAN = SolverPlan("newton", 6)
# A tensor with one channel this much larger than the others has no int8 levels left for them.
OUTLIER = 300.0
SABOTAGED = ("units.0.conv", "units.1.conv")


def gratings(seed: int = 0) -> np.ndarray:
    """Images that even an untrained network distinguishes: uint8 `(classes * each, H, W, 3)`."""
    draw = np.random.default_rng(seed)
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE
    pictures = []
    for index in range(CLASSES * EACH):
        angle = (index // EACH) * math.pi / CLASSES + draw.normal(0, 0.12)
        phase = draw.uniform(0, 2 * math.pi)
        wave = np.sin(2 * math.pi * 4 * (x * math.cos(angle) + y * math.sin(angle)) + phase)
        hue = 2 * math.pi * (index // EACH) / CLASSES + np.array([0, 2.1, 4.2])
        pixels = 128 + 60 * np.cos(hue) + 50 * wave[..., None] + draw.normal(0, 25, (SIDE, SIDE, 3))
        pictures.append(pixels.clip(0, 255).astype(np.uint8))
    return np.stack(pictures)


def small_model(sabotaged: bool) -> EmbeddingModel:
    """An untrained network; sabotaged, it computes the same with an outlier channel inside."""
    torch.manual_seed(0)
    head = GSPConfig(32, embedding_dim=16, num_prototypes=4, solver="newton")
    config = ModelConfig("small_cnn_s8", head, SPEC, {"width": 8})
    model = EmbeddingModel(config).eval()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.bias.normal_(0, 0.2)
        if sabotaged:
            first, second = model.backbone.units[0], model.backbone.units[1]
            first.norm.weight[0] *= OUTLIER
            first.norm.bias[0] *= OUTLIER
            second.conv.weight[:, 0] /= OUTLIER
    return model


def calibration(count: int = CLASSES * EACH) -> Calibration:
    return Calibration(gratings()[:count], f"{count} gratings", SPEC)


def unlabelled(count: int = CLASSES * EACH) -> QuantisationImages:
    return QuantisationImages(calibration(count), calibration(count))

"""Backbones that timm lacks; importing this package registers them with timm.

timm calls every entry point with the same keywords. An entry point lists those that its network
does not use and ignores them; any other keyword raises TypeError.
"""

from __future__ import annotations

from gsp_deploy.backbones.bn_inception import BNInception, is_published, load_published_weights
from gsp_deploy.backbones.efficientnet_lite0 import load_wheel_weights
from gsp_deploy.backbones.keras_resnet50 import keras_resnet50
from gsp_deploy.backbones.small_cnn import SmallConvNet

__all__ = [
    "BNInception",
    "SmallConvNet",
    "is_published",
    "keras_resnet50",
    "load_published_weights",
    "load_wheel_weights",
]

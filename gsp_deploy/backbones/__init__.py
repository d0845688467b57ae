"""Networks that timm does not have, registered with it when this package is imported.

timm calls an entry point with the same keywords whatever the network has. Those without a meaning
for it are named there and not used; anything else is refused by Python itself.
"""

from __future__ import annotations

from gsp_deploy.backbones.bn_inception import BNInception, is_published, load_published_weights
from gsp_deploy.backbones.efficientnet_lite0 import load_wheel_weights
from gsp_deploy.backbones.small_cnn import SmallConvNet

__all__ = [
    "BNInception",
    "SmallConvNet",
    "is_published",
    "load_published_weights",
    "load_wheel_weights",
]

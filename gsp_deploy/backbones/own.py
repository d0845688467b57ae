"""A network of your own in the place of a timm backbone."""

from __future__ import annotations

from torch import Tensor, nn

from gsp_deploy.backbones.features import FeatureLayout, feature_map


class OwnBackbone(nn.Module):
    """Returns the feature map of any network, as timm's backbones do.

    Args:
        network: images `(B, 3, H, W)` to a map, to tokens, or to a dict or tuple with them. If it
            has timm's `forward_features`, that is called.
        channels: C of its features.
        layout: how it arranges its features; None reads timm's description of it, or guesses the
            axes from the number of channels.
    """

    output_fmt = "NCHW"

    def __init__(
        self, network: nn.Module, channels: int, layout: FeatureLayout | None = None
    ) -> None:
        super().__init__()
        self.network = network
        self.num_features = channels
        self.layout = layout

    def forward_features(self, images: Tensor) -> Tensor:
        """Return the feature map `(B, C, h, w)`.

        Raises:
            ConfigError: the network yields neither a map nor tokens.
        """
        if self.layout is None and hasattr(self.network, "forward_features"):
            return feature_map(self.network, images)
        layout = self.layout or FeatureLayout(channels=(self.num_features,))
        return layout.map_of(self.network(images), (images.shape[-2], images.shape[-1]))

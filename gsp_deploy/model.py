"""The embedding model: a timm backbone and a pooling head, built from one config."""

from __future__ import annotations

from typing import Any

import timm
import torch
from torch import Tensor, nn

import gsp_deploy.backbones  # noqa: F401 - registers them with timm
from gsp_deploy.backbones.features import FeatureLayout, feature_map
from gsp_deploy.backbones.image_sizes import size_error
from gsp_deploy.backbones.last_stride import OPTION as LAST_STRIDE
from gsp_deploy.backbones.last_stride import set_last_stride
from gsp_deploy.backbones.own import OwnBackbone
from gsp_deploy.config import (
    BaselineConfig,
    GSPConfig,
    ModelConfig,
    PreprocessingSpec,
    backbone_name,
)
from gsp_deploy.errors import ConfigError, GspDeployError, brief, reason_of
from gsp_deploy.layers import BaselinePooling, GeneralizedSumPooling, PoolingOutput


class EmbeddingModel(nn.Module):
    """Images `(B, 3, H, W)`, normalised, to `PoolingOutput` with embeddings `(B, D)`.

    Args:
        config: backbone, head and pre-processing.
        pretrained: load timm's published weights (timm downloads them unless they are cached).

    Raises:
        ConfigError: timm does not know the backbone, or its features do not fit the head.

    >>> from gsp_deploy import GSPConfig, ModelConfig
    >>> model = EmbeddingModel(ModelConfig("features", GSPConfig(in_channels=8), None)).eval()
    >>> tuple(model(torch.rand(2, 8, 7, 7)).embedding.shape)
    (2, 512)
    """

    def __init__(self, config: ModelConfig, pretrained: bool = False) -> None:
        super().__init__()
        self._join(config, create_backbone(config, pretrained), create_head(config.trained_head))

    @classmethod
    def of(
        cls,
        backbone: nn.Module,
        head: GSPConfig | BaselineConfig | GeneralizedSumPooling | BaselinePooling,
        preprocessing: PreprocessingSpec,
        layout: FeatureLayout | None = None,
    ) -> EmbeddingModel:
        """Join a network of your own and a head; everything but `save_checkpoint` takes the model.

        Args:
            backbone: any network from images `(B, 3, H, W)` to a map, to tokens, or to a dict or
                tuple with one of them; it is not copied.
            head: a layer, or settings for a new one.
            preprocessing: how to prepare images.
            layout: how the network arranges its features: `FeatureLayout(entry="features")` of a
                dict, `FeatureLayout(prefix_tokens=1)` of tokens after a class token. None guesses
                the order of the axes from the head's number of channels.

        Raises:
            ConfigError: the features of a blank image are no map and no tokens, or have another
                number of channels than the head.

        >>> from gsp_deploy import GSPConfig, PreprocessingSpec
        >>> network = nn.Conv2d(3, 8, 3)
        >>> model = EmbeddingModel.of(network, GSPConfig(in_channels=8), PreprocessingSpec(32, 32))
        >>> tuple(model(torch.rand(2, 3, 32, 32)).embedding.shape)
        (2, 512)
        """
        pooling = head if isinstance(head, nn.Module) else create_head(head)
        config = ModelConfig(backbone_name(type(backbone).__name__), pooling.config, preprocessing)
        model = cls.__new__(cls)
        nn.Module.__init__(model)
        own = OwnBackbone(backbone, pooling.config.in_channels, layout)
        model._join(config, own, pooling)
        model._check_features()
        return model

    @property
    def is_own(self) -> bool:
        """Whether the backbone is a network of your own, which no checkpoint can describe."""
        return isinstance(self.backbone, OwnBackbone)

    def _join(
        self, config: ModelConfig, backbone: Any, head: GeneralizedSumPooling | BaselinePooling
    ) -> None:
        self.config = config
        self.backbone: Any = backbone
        self.head = head
        channels, wanted = FeatureLayout.of(self.backbone).channels, config.trained_head.in_channels
        if wanted not in channels:
            raise ConfigError(
                f"backbone {config.backbone} yields {' or '.join(map(str, channels))} channels, "
                f"but the head expects in_channels={brief(wanted)}"
            )

    @torch.no_grad()
    def _check_features(self) -> None:
        spec, modes = self.config.preprocessing, {part: part.training for part in self.modules()}
        assert spec is not None
        blank = torch.zeros(2, 3, spec.height, spec.width).to(self.head.embed.weight)
        found = self.eval().features(blank)
        for part, was_training in modes.items():
            part.training = was_training
        expected = self.config.trained_head.in_channels
        if found.ndim != 4 or found.shape[1] != expected:
            raise ConfigError(
                f"backbone {self.config.backbone} yields {tuple(found.shape)}, and the head pools "
                f"(batch, {expected}, height, width); pass the head's in_channels, or a layout"
            )

    def forward(self, images: Tensor) -> PoolingOutput:
        """Embed a batch of normalised images (feature maps, if the model is a head alone)."""
        output: PoolingOutput = self.head(self.features(images))
        return output

    def features(self, images: Tensor) -> Tensor:
        """Return the backbone's feature map `(B, C, H', W')`; `(B, C, N, 1)` without a grid.

        Raises:
            ConfigError: the backbone fails on images of this size, or its output has no locations.
        """
        return run_backbone(self.config.backbone, self.backbone, images)


class FeatureInput(nn.Module):
    """Takes a backbone's place in a head alone and passes the features through."""

    output_fmt = "NCHW"

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.num_features = channels

    def forward_features(self, features: Tensor) -> Tensor:
        """Return the features as they are."""
        return features


def create_backbone(config: ModelConfig, pretrained: bool = False) -> Any:
    """Create the backbone without its classifier, and without its own pooling if timm can.

    Raises:
        ConfigError: timm does not know the name, or cannot build it with these options.
    """
    if config.is_head_only:
        return FeatureInput(config.trained_head.in_channels)
    try:
        try:
            return _from_timm(config, pretrained, global_pool="")
        except AssertionError:  # a few constructors insist on a pooling, which nothing here calls
            return _from_timm(config, pretrained)
    except Exception as error:  # a wrong option can raise any type in timm's constructors
        raise ConfigError(f"backbone {brief(config.backbone)}: {_why(error, config)}") from error


def _from_timm(config: ModelConfig, pretrained: bool, **options: Any) -> Any:
    options |= config.backbone_options
    stride = options.pop(LAST_STRIDE, None)
    backbone = timm.create_model(config.backbone, pretrained=pretrained, num_classes=0, **options)
    if stride is not None:
        set_last_stride(backbone, stride)
    return backbone


def run_backbone(name: str, backbone: Any, images: Tensor) -> Tensor:
    """Return the feature map of normalised images; `name` is the backbone's, for messages.

    Raises:
        ConfigError: the backbone fails on images of this size, or its output has no locations.
    """
    try:
        return feature_map(backbone, images)
    except ConfigError as error:
        raise ConfigError(f"backbone {name}: {error}") from error
    except (GspDeployError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # a network may raise any type for a size that it does not support
        height, width = images.shape[-2:]
        raise size_error(name, backbone, (height, width), error) from error


def _why(error: Exception, config: ModelConfig) -> str:
    if "Unknown model" not in str(error):
        return reason_of(error)
    near = timm.list_models(f"*{config.backbone.split('_')[0]}*")[:4]
    return "timm has no model of this name" + (f"; near it: {', '.join(near)}" if near else "")


def create_head(config: GSPConfig | BaselineConfig) -> GeneralizedSumPooling | BaselinePooling:
    """Create the pooling head that the config describes."""
    if isinstance(config, GSPConfig):
        return GeneralizedSumPooling(config)
    return BaselinePooling(config)


@torch.no_grad()
def feature_channels(
    backbone: str, options: dict[str, object], preprocessing: PreprocessingSpec
) -> int:
    """Return how many channels a backbone's features have, by running it on one blank image.

    Raises:
        ConfigError: the backbone fails on images of this size, or its output has no locations.
    """
    blank = BaselineConfig(in_channels=1)
    network = create_backbone(ModelConfig(backbone, blank, preprocessing, options)).eval()
    image = torch.zeros(1, 3, preprocessing.height, preprocessing.width)
    return int(run_backbone(backbone, network, image).shape[1])

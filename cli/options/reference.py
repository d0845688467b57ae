"""Options of `export` and `convert` for settings that the authors' state dict does not store."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from gsp_deploy.config import Interpolation, Pipeline, PoolingMode, ResizeMode
from gsp_deploy_cli.options.groups import panel
from gsp_deploy_cli.tables import show

if TYPE_CHECKING:
    from gsp_deploy import EmbeddingModel
    from gsp_deploy.config import GSPConfig, PreprocessingSpec

reference_option = panel("For a state dict, or a network of your own")


@dataclass(frozen=True)
class ReferenceOptions:
    """Settings that the authors' state dict does not store."""

    backbone: Annotated[str | None, reference_option(help="Name of the timm architecture.")] = None
    backbone_option: Annotated[
        list[str] | None,
        reference_option(
            metavar="NAME=VALUE",
            help="Argument of timm's constructor, as img_size=224 or dynamic_img_size=true, or "
            "last_stride=1 for a ResNet; repeatable.",
        ),
    ] = None
    weights_key: Annotated[
        str | None,
        reference_option(
            help="Key of the weights in a .pt, as state_dict_ema. (default: averaged weights first)"
        ),
    ] = None
    prefix: Annotated[
        str,
        reference_option(help="Beginning of the names, if the state dict holds several networks."),
    ] = ""
    image_size: Annotated[
        int | None, reference_option(help="Height and width of the input. (default: 224)")
    ] = None
    mean: Annotated[
        tuple[float, float, float] | None,
        reference_option(metavar="R G B", help="Mean of pixels in [0, 1]. (default: ImageNet's)"),
    ] = None
    std: Annotated[
        tuple[float, float, float] | None,
        reference_option(
            metavar="R G B", help="Standard deviation of pixels in [0, 1]. (default: ImageNet's)"
        ),
    ] = None
    resize: Annotated[
        ResizeMode | None,
        reference_option(help="Crop the centre, or stretch to the size. (default: crop)"),
    ] = None
    interpolation: Annotated[
        Interpolation | None, reference_option(help="Filter of the resize. (default: bilinear)")
    ] = None
    crop_ratio: Annotated[
        float | None,
        reference_option(
            help="Side of the centre crop divided by the resized side, as 0.875 for 224 of 256. "
            "(default: 1)"
        ),
    ] = None
    pipeline: Annotated[
        Pipeline | None,
        reference_option(help="Library to resize and crop like. (default: torchvision)"),
    ] = None
    transport_ratio: Annotated[
        float | None, reference_option(help="Share of the image to keep, mu. (default: 0.3)")
    ] = None
    entropy_weight: Annotated[
        float | None, reference_option(help="Weight of the entropy, gamma. (default: 0.1)")
    ] = None
    pooling_mode: Annotated[
        PoolingMode | None,
        reference_option(help="The authors' mode. (default: gem if it has a power, else gmp)"),
    ] = None
    max_residual: Annotated[
        bool | None,
        reference_option(
            "--max-residual/--no-max-residual",
            help="Add the embedding of the features' maxima. (default: no)",
        ),
    ] = None
    normalize: Annotated[
        bool | None,
        reference_option(
            "--normalize/--no-normalize", help="L2-normalise the embedding. (default: yes)"
        ),
    ] = None

    def load(self, checkpoint: Path) -> EmbeddingModel:
        """Load a checkpoint; a gsp-deploy checkpoint brings its own settings."""
        from gsp_deploy.base.settings import setting_of
        from gsp_deploy.checkpoint import load_checkpoint, usual_preprocessing

        usual = usual_preprocessing(checkpoint)
        options = dict(map(setting_of, self.backbone_option or ())) or None
        return load_checkpoint(
            checkpoint,
            backbone=self.backbone,
            backbone_options=options,
            preprocessing=self.preprocessing(usual) if self._given else None,
            transport_ratio=self.transport_ratio,
            entropy_weight=self.entropy_weight,
            pooling=self.pooling_mode,
            max_residual=self.max_residual,
            normalize=self.normalize,
            weights_key=self.weights_key,
            prefix=self.prefix,
            announce=show.remark,
        )

    def preprocessing(self, usual: PreprocessingSpec) -> PreprocessingSpec:
        """Return how images are prepared: as usual, except for what the options set."""
        return replace(usual, **self._given)

    @property
    def _given(self) -> dict[str, Any]:
        """The fields of the preprocessing that options set."""
        asked = {
            "height": self.image_size,
            "width": self.image_size,
            "mean": self.mean,
            "std": self.std,
            "resize": self.resize,
            "interpolation": self.interpolation,
            "crop_ratio": self.crop_ratio,
            "pipeline": self.pipeline,
        }
        return {name: value for name, value in asked.items() if value is not None}


def settings_in_words(head: GSPConfig) -> str:
    """Return the settings that a state dict does not store, so that you notice a wrong default."""
    return (
        f"GSP ({head.pooling}), mu {head.transport_ratio:g}, gamma {head.entropy_weight:g}, "
        f"{head.num_prototypes} prototypes"
    )

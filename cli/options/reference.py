"""Options of `export` and `convert` for settings that the authors' state dict does not store."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, overload

from gsp_deploy.config import Pipeline, PoolingMode
from gsp_deploy_cli.options.groups import panel
from gsp_deploy_cli.tables import show

if TYPE_CHECKING:
    from gsp_deploy import EmbeddingModel
    from gsp_deploy.config import GSPConfig, PreprocessingSpec

reference_option = panel("For a state dict, or a network of your own")
USUAL_SIDE = 224


@dataclass(frozen=True)
class ReferenceOptions:
    """Settings that the authors' state dict does not store."""

    backbone: Annotated[str | None, reference_option(help="Name of the timm architecture.")] = None
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
        from gsp_deploy.checkpoint import load_checkpoint

        return load_checkpoint(
            checkpoint,
            backbone=self.backbone,
            preprocessing=self.preprocessing(),
            transport_ratio=self.transport_ratio,
            entropy_weight=self.entropy_weight,
            pooling=self.pooling_mode,
            max_residual=self.max_residual,
            normalize=self.normalize,
            weights_key=self.weights_key,
            prefix=self.prefix,
            tell=lambda line: show.note(f"note: {line}"),
        )

    @overload
    def preprocessing(self, usual_side: int) -> PreprocessingSpec: ...
    @overload
    def preprocessing(self) -> PreprocessingSpec | None: ...
    def preprocessing(self, usual_side: int | None = None) -> PreprocessingSpec | None:
        """Return the preprocessing; without `usual_side`, None if no option sets any of it."""
        from gsp_deploy.config import PreprocessingSpec

        asked = {
            "mean": self.mean,
            "std": self.std,
            "crop_ratio": self.crop_ratio,
            "pipeline": self.pipeline,
        }
        given = {name: value for name, value in asked.items() if value is not None}
        if usual_side is None and self.image_size is None and not given:
            return None
        side = (usual_side or USUAL_SIDE) if self.image_size is None else self.image_size
        return PreprocessingSpec(side, side, **given)  # type: ignore[arg-type]


def settings_in_words(head: GSPConfig) -> str:
    """Return the settings that a state dict does not store, so that you notice a wrong default."""
    return (
        f"{head.pooling}, mu {head.transport_ratio:g}, gamma {head.entropy_weight:g}, "
        f"{head.num_prototypes} prototypes"
    )

"""What the authors' state dict does not tell of its model: options of `export` and `convert`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from gsp_deploy import EmbeddingModel
    from gsp_deploy.config import GSPConfig, PreprocessingSpec

REFERENCE = "For the authors' state dict"
USUAL_SIDE = 224


@dataclass(frozen=True)
class ReferenceOptions:
    """What the authors' state dict does not tell of its model."""

    backbone: Annotated[
        str | None, typer.Option(help="timm architecture.", rich_help_panel=REFERENCE)
    ] = None
    image_size: Annotated[
        int | None, typer.Option(help="Input side. (default: 224)", rich_help_panel=REFERENCE)
    ] = None
    mean: Annotated[
        tuple[float, float, float] | None,
        typer.Option(
            metavar="R G B",
            help="Of pixels in [0, 1]. (default: ImageNet's)",
            rich_help_panel=REFERENCE,
        ),
    ] = None
    std: Annotated[
        tuple[float, float, float] | None,
        typer.Option(
            metavar="R G B", help="Likewise. (default: ImageNet's)", rich_help_panel=REFERENCE
        ),
    ] = None
    crop_ratio: Annotated[
        float | None,
        typer.Option(
            help="Side of the centre crop over the resized image's, as 0.875 for 224 of 256. "
            "(default: 1)",
            rich_help_panel=REFERENCE,
        ),
    ] = None
    transport_ratio: Annotated[
        float | None, typer.Option(help="mu. (default: 0.3)", rich_help_panel=REFERENCE)
    ] = None
    entropy_weight: Annotated[
        float | None, typer.Option(help="gamma. (default: 0.1)", rich_help_panel=REFERENCE)
    ] = None
    pooling_mode: Annotated[
        str | None,
        typer.Option(help="gap, gmp, gem. (default: gmp)", rich_help_panel=REFERENCE),
    ] = None
    max_residual: Annotated[
        bool | None,
        typer.Option("--max-residual/--no-max-residual", rich_help_panel=REFERENCE),
    ] = None
    normalize: Annotated[
        bool | None, typer.Option("--normalize/--no-normalize", rich_help_panel=REFERENCE)
    ] = None

    def load(self, checkpoint: Path) -> EmbeddingModel:
        """Load a checkpoint; one of ours says itself what its backbone and images are."""
        from gsp_deploy.checkpoint import load_checkpoint

        return load_checkpoint(
            checkpoint,
            backbone=self.backbone,
            preprocessing=self._preprocessing(),
            transport_ratio=self.transport_ratio,
            entropy_weight=self.entropy_weight,
            pooling=self.pooling_mode,  # type: ignore[arg-type]
            max_residual=self.max_residual,
            normalize=self.normalize,
        )

    def _preprocessing(self) -> PreprocessingSpec | None:
        """Return what the images go through, or None where nothing is said of it."""
        from gsp_deploy.config import PreprocessingSpec

        asked = {"mean": self.mean, "std": self.std, "crop_ratio": self.crop_ratio}
        given = {name: value for name, value in asked.items() if value is not None}
        if self.image_size is None and not given:
            return None
        side = USUAL_SIDE if self.image_size is None else self.image_size
        return PreprocessingSpec(side, side, **given)  # type: ignore[arg-type]


def settings_in_words(head: GSPConfig) -> str:
    """Return what a bare state dict does not say, so that a wrong guess of it is seen."""
    return (
        f"{head.pooling}, mu {head.transport_ratio:g}, gamma {head.entropy_weight:g}, "
        f"{head.num_prototypes} prototypes"
    )

"""Options for how an image becomes the input of a network that does not say so itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from gsp_deploy.config import Interpolation, Pipeline, ResizeMode
from gsp_deploy_cli.options.groups import panel
from gsp_deploy_cli.options.numbers import whole_numbers

if TYPE_CHECKING:
    from gsp_deploy.config import PreprocessingSpec
    from gsp_deploy.export.adoption import ImageInput

preparation_option = panel("How images are prepared")


@dataclass(frozen=True)
class PreparationOptions:
    """How an image becomes the input; an option that you give goes before `--like`."""

    like: Annotated[
        str | None,
        preparation_option(
            metavar="timm/NAME", help="Take all of these settings from this network in timm."
        ),
    ] = None
    size: Annotated[
        str | None,
        preparation_option(
            help="Side of the input in pixels, or HEIGHTxWIDTH. (default: the file's own, if it "
            "has one)"
        ),
    ] = None
    resize: Annotated[
        ResizeMode | None,
        preparation_option(help="Crop the centre, or stretch to the size. (default: crop)"),
    ] = None
    crop_ratio: Annotated[
        float | None,
        preparation_option(
            help="Side of the centre crop divided by the resized side, as 0.875 for 224 of 256. "
            "(default: 1)"
        ),
    ] = None
    mean: Annotated[
        tuple[float, float, float] | None,
        preparation_option(metavar="R G B", help="Mean of pixels in [0, 1]. (default: ImageNet's)"),
    ] = None
    std: Annotated[
        tuple[float, float, float] | None,
        preparation_option(
            metavar="R G B", help="Standard deviation of pixels in [0, 1]. (default: ImageNet's)"
        ),
    ] = None
    interpolation: Annotated[
        Interpolation | None, preparation_option(help="Filter of the resize. (default: bilinear)")
    ] = None
    pipeline: Annotated[
        Pipeline | None,
        preparation_option(help="Library to resize and crop like. (default: torchvision)"),
    ] = None

    def settle(self, images: ImageInput) -> PreprocessingSpec:
        """Return the settings for a network's input.

        Raises:
            UsageError: there is no size, a value is outside its domain, or the network normalises
                pixels itself and a mean or std is given.
        """
        from gsp_deploy.config import PreprocessingSpec
        from gsp_deploy.errors import UsageError

        if images.takes_pixels and (self.mean or self.std):
            raise UsageError(
                "the network takes uint8 pixels and normalises them itself; leave --mean and --std "
                "out"
            )
        given = {name: value for name, value in vars(self).items() if value is not None}
        start: dict[str, object] = {}
        if given.pop("like", None) is not None:
            from gsp_deploy.export.adoption.likeness import preprocessing_like  # needs timm

            start = dict(vars(preprocessing_like(str(self.like))))
        size = given.pop("size", None)
        if size is not None:
            sides = whole_numbers("--size", size, "x", "one side or HEIGHTxWIDTH")
            if len(sides) > 2:
                raise UsageError(f"--size takes one side or HEIGHTxWIDTH, got {size!r}")
            start["height"], start["width"] = sides[0], sides[-1]
        elif images.size is not None:
            start["height"], start["width"] = images.size
        elif not start:
            raise UsageError(
                "the network takes images of any size; pass --size with the one that it was "
                "trained at, or --like"
            )
        return PreprocessingSpec(**{**start, **given})  # type: ignore[arg-type]

"""Options of `export` for int8."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from gsp_deploy.base.choices import CalibrationMethod
from gsp_deploy.precision import PRECISIONS
from gsp_deploy_cli.options.groups import panel
from gsp_deploy_cli.options.inputs import existing_data

if TYPE_CHECKING:
    from gsp_deploy.export import ExportOptions

int8_option = panel("For int8")


@dataclass(frozen=True)
class Int8Options:
    """How to calibrate int8, and how much accuracy it may lose."""

    calibration_method: Annotated[
        CalibrationMethod | None,
        int8_option(help="How to choose the range of each activation. (default: min-max)"),
    ] = None
    max_drop: Annotated[
        float | None,
        int8_option(
            help="Largest loss of MAP@R, in points; sensitive layers stay in fp32 until the loss "
            "is below it. (default: 0.5)"
        ),
    ] = None
    validate: Annotated[
        str | None,
        int8_option(
            help="Where to measure the loss: a folder of images, one folder a class, or a data "
            "set (see `data list`). (default: the calibration images)",
            callback=existing_data,
        ),
    ] = None

    @property
    def given(self) -> dict[str, Any]:
        """The settings of the export that you gave, by name."""
        names = ("calibration_method", "max_drop")
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}

    def check(self, precision: str, calibrate: Path | None) -> None:
        """Raise `UsageError` if these options and the precision contradict each other."""
        from gsp_deploy.errors import UsageError

        given = [name for name, value in asdict(self).items() if value is not None]
        quantised = PRECISIONS[precision].quantised
        if given and not quantised:
            option = given[0].replace("_", "-")
            raise UsageError(f"--{option} belongs to --precision int8, got --precision {precision}")
        if quantised and calibrate is None:
            raise UsageError(f"{precision} needs images to calibrate on; pass --calibrate FOLDER")

    def options(self) -> ExportOptions:
        """Return an export's options for int8."""
        from gsp_deploy.export import ExportOptions

        return ExportOptions(precision="int8", **self.given)

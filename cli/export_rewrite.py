"""`gsp-deploy export --from`: rewrite an ONNX model in another form, without its checkpoint."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from gsp_deploy.precision import PRECISIONS
from gsp_deploy_cli.options.groups import given_options
from gsp_deploy_cli.options.int8 import Int8Options
from gsp_deploy_cli.tables import show
from gsp_deploy_cli.tables.export import check_drop, report

if TYPE_CHECKING:
    from gsp_deploy.artifact import ExportManifest
    from gsp_deploy.artifact.artifact import Artifact
    from gsp_deploy.artifact.pooling_node import PoolingForm
    from gsp_deploy.config import PreprocessingSpec

# Options that a rewrite accepts; the ONNX file fixes everything else.
TAKEN = frozenset(
    {
        "source", "output", "pooling", "bare", "precision", "calibrate", "calibration_method",
        "max_drop", "validate", "external_data", "force", "json",
    }
)  # fmt: skip


@dataclass(frozen=True)
class Rewriting:
    """What `--from` makes of a file.

    Attributes:
        source, output: the file to read, and the one to write.
        form: of the pooling; `unrolled` leaves it as it is.
        precision: `fp32` leaves it as it is.
        external_data: put the weights in a separate file.
        calibrate: the folder of images, if one was given.
        int8: how to calibrate int8.
    """

    source: Path
    output: Path
    form: PoolingForm
    precision: str
    external_data: bool
    calibrate: Path | None
    int8: Int8Options

    def check(self, context: typer.Context) -> None:
        """Raise `UsageError` if another option is given, or if nothing is to be changed."""
        from gsp_deploy.errors import UsageError

        for name, option in given_options(context).items():
            if name not in TAKEN:
                raise UsageError(
                    f"{option} is settled in {self.source.name} already; with --from "
                    "only --pooling plugin and --bare, or --precision, change anything"
                )
        changes = (self.form != "unrolled") + (self.precision != "fp32")
        if changes != 1:
            raise UsageError(
                "--from rewrites the pooling or converts the precision: pass --pooling plugin or "
                "--precision, " + ("not both" if changes else "got neither")
            )
        if self.precision != "fp32" and self.external_data:
            raise UsageError("--external-data stays as it is in the file; leave it out")
        self.int8.check(self.precision, self.calibrate)

    def run(self) -> Artifact[ExportManifest]:
        """Write the file."""
        from gsp_deploy.export import rewrite_pooling

        if self.form != "unrolled":
            return rewrite_pooling(self.source, self.output, self.form, self.external_data)
        return self._quantise() if PRECISIONS[self.precision].quantised else self._convert()

    def _convert(self) -> Artifact[ExportManifest]:
        from gsp_deploy.export import calibration_from_files
        from gsp_deploy.export.conversion import convert_precision

        images, spec = None, self._preprocessing()
        if self.calibrate is not None and spec is not None:
            images = calibration_from_files(self.calibrate, spec, announce=show.note)
        return convert_precision(self.source, self.output, self.precision, images)

    def _quantise(self) -> Artifact[ExportManifest]:
        from gsp_deploy.errors import UsageError
        from gsp_deploy.export import quantisation_images, quantise_adopted

        spec = self._preprocessing()
        if spec is None:
            raise UsageError(f"{self.source} does not say how images are prepared; adopt it first")
        assert self.calibrate is not None  # `check` refused that
        images = quantisation_images(self.calibrate, spec, self.int8.validate)
        return quantise_adopted(self.source, self.output, images, self.int8.options(), show.note)

    def _preprocessing(self) -> PreprocessingSpec | None:
        from gsp_deploy.artifact.onnx_manifest import read_onnx_manifest

        manifest = read_onnx_manifest(self.source)
        return None if manifest is None else manifest.preprocessing


def rewrite(context: typer.Context, asked: Rewriting, force: bool, json: bool) -> None:
    """Rewrite a file and report on the result as an export does."""
    from gsp_deploy.artifact import refuse_model_overwrite
    from gsp_deploy.artifact.kind import ONNX, require_kind
    from gsp_deploy.base.files import refuse_inputs_inside

    asked.check(context)
    require_kind(asked.output, ONNX, what="an output")
    refuse_inputs_inside(asked.output, [asked.source])
    refuse_model_overwrite(asked.output, force)
    with show.status(f"rewriting {asked.source.name}"):
        exported = asked.run()
    report(exported, json)
    check_drop(exported)

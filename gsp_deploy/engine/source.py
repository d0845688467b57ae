"""Provide the ONNX file for a build: take it as it is, export it, or convert it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from gsp_deploy.artifact import ExportManifest
from gsp_deploy.artifact.kind import CHECKPOINT, ONNX, require_kind
from gsp_deploy.artifact.onnx_manifest import read_onnx_manifest
from gsp_deploy.base.choices import Pooling, PoolingForm
from gsp_deploy.base.progress import Announce
from gsp_deploy.errors import ModelFileError, UsageError
from gsp_deploy.precision import PrecisionWord, precision_named

POOLINGS: tuple[str, ...] = get_args(Pooling)


@dataclass(frozen=True)
class SourceOptions:
    """Settings of the ONNX file that a build starts from.

    Args:
        precision: None leaves it as it is.
        pooling: `unrolled`, or `plugin` for one node that a plugin computes.
        dynamic_size: leave height and width open when exporting a checkpoint.
        keep: where to keep a file that is exported or converted; None deletes it.
    """

    precision: PrecisionWord | None = None
    pooling: Pooling = "unrolled"
    dynamic_size: bool = False
    keep: Path | None = None

    def __post_init__(self) -> None:
        if self.pooling not in POOLINGS:
            raise UsageError(f"--pooling must be unrolled or plugin, got {self.pooling!r}")

    def name_for(self, source: Path) -> str:
        """Return the name of the exported or converted file."""
        form = None if self.pooling == "unrolled" else self.pooling
        return "-".join(word for word in (source.stem, self.precision, form) if word) + ".onnx"


@contextmanager
def onnx_of(
    source: Path, options: SourceOptions, announce: Announce = lambda line: None
) -> Iterator[Path]:
    """Yield an ONNX file in the precision and with the pooling that were asked for.

    A checkpoint is exported. A float32 export is converted to a lower precision. With the plugin,
    the pooling becomes the plugin's node without a body, because every version of TensorRT maps
    that form to the plugin. A file that already fits is yielded unchanged.

    Raises:
        UsageError: the file cannot be converted to what the options ask for.
        ModelFileError, CheckpointError: the file is missing or damaged.
    """
    if not source.is_file():
        raise ModelFileError(f"{source}: no such file")
    with tempfile.TemporaryDirectory(prefix="gsp-build-") as folder:
        made = options.keep or Path(folder) / options.name_for(source)
        if require_kind(source, ONNX, CHECKPOINT) is CHECKPOINT:
            announce(f"exporting {source.name}")
            yield _export(source, made, options)
        else:
            yield _rewrite(source, made, Path(folder), options, announce)


def _export(source: Path, target: Path, options: SourceOptions) -> Path:
    from gsp_deploy.checkpoint import load_checkpoint  # needs torch
    from gsp_deploy.export import ExportOptions, Source, export_onnx

    precision = options.precision or "fp32"
    if precision_named(precision).quantised:
        raise UsageError(
            f"{precision} needs images to calibrate on: gsp-deploy export --precision {precision} "
            "--calibrate FOLDER, and build what it writes"
        )
    form: PoolingForm = "plugin-bare" if options.pooling == "plugin" else "unrolled"
    asked = ExportOptions(
        precision=precision,
        pooling_form=form,
        dynamic_size=options.dynamic_size,
    )
    model = load_checkpoint(source)
    asked.check_against(model.config)
    origin = Source.of(source)
    return export_onnx(model, target, asked, source=origin).path


def _rewrite(
    source: Path,
    target: Path,
    folder: Path,
    options: SourceOptions,
    announce: Announce,
) -> Path:
    manifest = read_onnx_manifest(source)
    found = source
    if options.dynamic_size:
        raise UsageError(f"{source}: --dynamic-size needs a checkpoint, not an ONNX file")
    if options.precision is not None and _precision_of(manifest) != options.precision:
        from gsp_deploy.export.conversion import convert_precision  # needs the onnx package

        announce(f"converting {source.name} to {options.precision}")
        wants_more = options.pooling == "plugin"
        converted = folder / "converted" / source.name if wants_more else target
        found = convert_precision(source, converted, options.precision).path
    if options.pooling == "plugin" and _form_of(manifest) != "plugin-bare":
        from gsp_deploy.export.rewriting import rewrite_pooling  # needs the onnx package

        found = rewrite_pooling(found, target, "plugin-bare").path
    if found == source and options.keep is not None:
        raise UsageError(f"--onnx {options.keep}: {source} is built as it is, nothing is made")
    return found


def _precision_of(manifest: ExportManifest | None) -> str | None:
    return None if manifest is None else manifest.precision


def _form_of(manifest: ExportManifest | None) -> str | None:
    return None if manifest is None else manifest.pooling_form

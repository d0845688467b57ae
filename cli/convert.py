"""`gsp-deploy convert`: turn the authors' weights into a checkpoint that every command reads."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gsp_deploy_cli.options.common import Force, Json
from gsp_deploy_cli.options.inputs import existing_file
from gsp_deploy_cli.options.reference import ReferenceOptions, settings_in_words
from gsp_deploy_cli.tables import show

if TYPE_CHECKING:
    from gsp_deploy.config import ModelConfig


def convert(
    source: Annotated[
        Path,
        typer.Argument(
            help="The authors' state dict, .pt or .safetensors, with or without a backbone; or a "
            ".h5 of their TensorFlow framework.",
            callback=existing_file,
        ),
    ],
    *,
    output: Annotated[Path, typer.Option("--output", "-o", help="The .safetensors to write.")],
    reference: ReferenceOptions,
    license: Annotated[
        str | None, typer.Option(help="SPDX identifier of the weights' licence.")
    ] = None,
    dataset: Annotated[
        str | None, typer.Option(help="Data set that the weights were trained on.")
    ] = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Convert the authors' weights to a gsp-deploy checkpoint that stores their settings."""
    from gsp_deploy.base.files import refuse_inputs_inside, refuse_overwrite, sha256_of
    from gsp_deploy.checkpoint import Provenance, check_runs, read_metadata, save_checkpoint
    from gsp_deploy.errors import UsageError

    if output.suffix != ".safetensors":
        raise UsageError(f"{output}: expected an output ending in .safetensors")
    refuse_inputs_inside(output, [source])
    refuse_overwrite(output, force)
    if read_metadata(source) is not None:
        raise UsageError(f"{source}: already a gsp-deploy checkpoint, which every command reads")
    model = reference.load(source)
    check_runs(model, source)
    notes = f"converted from {source.name}, SHA-256 {sha256_of(source)}"
    save_checkpoint(model, output, Provenance(license, dataset, notes=notes))
    _report(output, model.config, json)


def _report(output: Path, config: ModelConfig, json: bool) -> None:
    if json:
        show.document("convert", {"checkpoint": str(output), "model": config.to_dict()})
        return
    rows = [
        ("backbone", "none, a head alone" if config.is_head_only else config.backbone),
        (
            "embedding",
            f"{config.trained_head.in_channels} channels to {config.head.embedding_dim}-D",
        ),
        ("head", settings_in_words(config.head)),
    ]
    if spec := config.preprocessing:
        images = (
            f"{spec.width} x {spec.height}, {spec.interpolation}, {spec.resize}, "
            f"crop ratio {spec.crop_ratio:g}, as {spec.pipeline}"
        )
        rows += [("images", images), ("mean, std", f"{spec.mean}, {spec.std}")]
    show.facts(str(output), rows)
    show.note(
        "note: the state dict does not store these settings; check that it was trained with them. "
        "If not, set them with --transport-ratio, --entropy-weight and the others (see --help)"
    )

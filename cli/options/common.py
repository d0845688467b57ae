"""Arguments and options that several commands share, with the same help and behaviour."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from gsp_deploy.errors import UsageError
from gsp_deploy_cli.options.inputs import existing_file, existing_images


def _labels(given: str) -> str:
    if given not in ("folder", "none"):
        raise UsageError(f"--labels expects folder or none, got {given!r}")
    return given


Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
Force = Annotated[bool, typer.Option("--force", help="Replace the output if it exists.")]
Strict = Annotated[
    bool, typer.Option("--strict", help="Fail at the first image that cannot be read.")
]
Labels = Annotated[
    str,
    typer.Option(
        help="Where classes come from: folder (one folder per class), or none.", callback=_labels
    ),
]
ReducedJpeg = Annotated[
    bool,
    typer.Option(
        "--reduced-jpeg",
        help="Decode large JPEG files at 1/2, 1/4 or 1/8 of their size: faster, and pixels differ "
        "slightly.",
    ),
]
BatchSize = Annotated[int, typer.Option(min=1, help="Images per batch.")]


@dataclass(frozen=True)
class ReadingOptions:
    """How a command reads the images that it embeds."""

    batch: BatchSize = 32
    strict: Strict = False
    reduced_jpeg: ReducedJpeg = False


ModelFile = Annotated[
    Path,
    typer.Argument(
        help="A checkpoint (.safetensors, .pt), an .onnx or an .engine file.",
        callback=existing_file,
    ),
]
Images = Annotated[
    list[str],
    typer.Argument(help="Folders, files or glob patterns.", callback=existing_images),
]

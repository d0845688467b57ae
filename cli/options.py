"""Options that several commands share, so that they read and behave alike."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
Force = Annotated[bool, typer.Option("--force", help="Replace the output if it exists.")]
Device = Annotated[str, typer.Option(help="cpu, cuda or cuda:N.")]
Provider = Annotated[
    str | None, typer.Option(help="ONNX Runtime's execution provider; implied by --device.")
]
Threads = Annotated[
    int | None, typer.Option(help="Threads of one inference; the runtime's choice if left out.")
]
ModelFile = Annotated[Path, typer.Argument(help="A checkpoint (.safetensors, .pt) or a .onnx.")]

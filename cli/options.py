"""Options that several commands share, so that they read and behave alike."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
Force = Annotated[bool, typer.Option("--force", help="Replace the output if it exists.")]
ENGINES = "Engines"
Device = Annotated[
    str | None, typer.Option(help="cpu, cuda or cuda:N. (default: cuda for engines, else cpu)")
]
Provider = Annotated[
    str | None, typer.Option(help="ONNX Runtime's execution provider; implied by --device.")
]
CudaApi = Annotated[
    str,
    typer.Option("--cuda-api", help="auto, cuda-python or pycuda.", rich_help_panel=ENGINES),
]
CudaGraphs = Annotated[
    bool,
    typer.Option(
        "--cuda-graphs/--no-cuda-graphs",
        help="Capture runs as CUDA graphs, one a shape.",
        rich_help_panel=ENGINES,
    ),
]
Plugins = Annotated[
    list[Path] | None,
    typer.Option(
        "--plugin", help="Shared object with plugins; repeatable.", rich_help_panel=ENGINES
    ),
]
HostCode = Annotated[
    bool,
    typer.Option(
        "--allow-host-code",
        help="Load version-compatible engines, which carry host code.",
        rich_help_panel=ENGINES,
    ),
]
Threads = Annotated[
    int | None, typer.Option(help="Threads of one inference; the runtime's choice if left out.")
]
ModelFile = Annotated[
    Path, typer.Argument(help="A checkpoint (.safetensors, .pt), a .onnx or an .engine.")
]

"""`gsp-deploy data`: what data sets there are, what they look like, and built-in ones as files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="List, preview and write data sets.")

Spec = Annotated[
    str, typer.Argument(metavar="SPEC", help="glyphs, cub:PATH, a folder, ...; see `data list`.")
]


@app.command("list")
def list_kinds(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Print how each kind of data set is named, and what it needs."""
    from gsp_deploy.data import KINDS

    if as_json:
        kinds = [
            {
                "name": kind.name,
                "form": kind.form,
                "description": kind.description,
                "needs": kind.needs,
                "recall_ranks": list(kind.recall_ranks),
            }
            for kind in KINDS
        ]
        typer.echo(json.dumps({"schema": "gsp-deploy/data-list", "version": 1, "kinds": kinds}))
        return
    for kind in KINDS:
        typer.echo(kind.form)
        typer.echo(f"    {kind.description}")
        typer.echo(f"    needs {kind.needs}; reports R@{{{','.join(map(str, kind.recall_ranks))}}}")


@app.command()
def preview(
    spec: Spec,
    output: Annotated[Path, typer.Option("--output", "-o", help="The sheet: .png or .jpg.")],
    part: Annotated[str, typer.Option(help="train, test, query or gallery.")] = "train",
    count: Annotated[int, typer.Option(min=1, max=4096, help="Images to show, about.")] = 64,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
) -> None:
    """Write a contact sheet: one class a row, under its name."""
    from gsp_deploy.data import open_dataset
    from gsp_deploy.data.preview import contact_sheet
    from gsp_deploy.errors import UsageError
    from gsp_deploy.files import refuse_overwrite, replacing

    if output.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise UsageError(f"expected a sheet named .png or .jpg, got {output.name!r}")
    refuse_overwrite(output, force)
    dataset = open_dataset(spec)
    images = dataset.part(part)
    sheet = contact_sheet(images, count)
    with replacing(output) as temporary:
        sheet.save(temporary)
    for note in dataset.notes:
        typer.echo(f"note: {note}", err=True)
    typer.echo(f"{dataset.name} {part}: {len(images)} images of {images.num_classes} classes")
    typer.echo(f"wrote {output}")


@app.command()
def write(
    spec: Spec,
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder, new or empty.")],
) -> None:
    """Write a built-in data set as PNG files, a folder per class below train/ and test/."""
    from rich.console import Console
    from rich.progress import Progress

    from gsp_deploy.data import open_dataset
    from gsp_deploy.data.writing import write_tree

    dataset = open_dataset(spec)
    with Progress(console=Console(stderr=True)) as bar:
        task = bar.add_task("writing", total=None)
        total = write_tree(
            dataset,
            output,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    typer.echo(f"wrote {total} images to {output}; read them with folder:{output}")

"""`gsp-deploy data`: list, check, preview and write data sets."""

from __future__ import annotations

import dataclasses
import textwrap
from pathlib import Path
from typing import Annotated

import typer

from gsp_deploy.base.words import counted
from gsp_deploy_cli.options.common import Force, Json
from gsp_deploy_cli.options.inputs import existing_data
from gsp_deploy_cli.tables import show

app = typer.Typer(no_args_is_help=True, help="List, check, preview and write data sets.")

_MOST_NAMED = 20

Spec = Annotated[
    str,
    typer.Argument(
        metavar="SPEC",
        help="glyphs, cub:PATH, a folder, ...; see `data list`.",
        callback=existing_data,
    ),
]


@app.command("list")
def list_kinds(as_json: Json = False) -> None:
    """Print how each kind of data set is named, and what it needs."""
    from gsp_deploy.data import KINDS

    if as_json:
        show.document("data-list", {"kinds": [dataclasses.asdict(kind) for kind in KINDS]})
        return
    for kind in KINDS:
        ranks = ",".join(map(str, kind.recall_ranks))
        rows = [("what", kind.description), ("needs", kind.needs), ("reports", f"R@{{{ranks}}}")]
        show.facts(_folded(kind.form), rows)


def _folded(form: str) -> str:
    """Break a form after commas, into lines that fit."""
    return textwrap.fill(form.replace(",", ", "), show.WIDTH).replace(", ", ",")


@app.command()
def check(spec: Spec, as_json: Json = False) -> None:
    """Read every image, and name those that are missing or broken (exit code 1)."""
    from gsp_deploy.data import open_dataset
    from gsp_deploy.data.checking import unreadable_images
    from gsp_deploy.errors import DataError

    dataset = open_dataset(spec)
    with show.counting("reading", len(dataset.train) + len(dataset.test)) as advance:
        broken = unreadable_images(dataset, advance)
    parts = {
        name: {"images": len(part), "classes": len(set(part.labels.tolist()))}
        for name, part in dataset.parts.items()
    }
    if as_json:
        show.document(
            "data-check",
            {
                "dataset": dataset.name,
                "parts": parts,
                "unreadable": [dataclasses.asdict(image) for image in broken],
                "notes": list(dataset.notes),
            },
        )
    else:
        rows = [(name, _sized(size["images"], size["classes"])) for name, size in parts.items()]
        show.facts(dataset.name, [*rows, ("unreadable", counted(len(broken), "image"))])
        for note in dataset.notes:
            show.remark(note)
    for image in broken[:_MOST_NAMED]:
        show.note(f"{image.part}: {image.reason}")
    if broken:
        more = len(broken) - _MOST_NAMED
        rest = f", {more:,} of them not named here (--json names all)" if more > 0 else ""
        raise DataError(
            f"{counted(len(broken), 'image')} of {spec} cannot be read{rest}; replace what is "
            "broken, or take it off the list"
        )


@app.command()
def preview(
    spec: Spec,
    output: Annotated[Path, typer.Option("--output", "-o", help="The sheet: .png or .jpg.")],
    part: Annotated[str, typer.Option(help="train, test, query or gallery.")] = "train",
    count: Annotated[
        int, typer.Option(min=1, max=4096, help="About how many images to show.")
    ] = 64,
    force: Force = False,
) -> None:
    """Write a contact sheet: one row per class, under its name."""
    from gsp_deploy.base.files import refuse_overwrite
    from gsp_deploy.data import open_dataset
    from gsp_deploy.data.preview import write_contact_sheet

    refuse_overwrite(output, force)
    dataset = open_dataset(spec)
    images = dataset.part(part)
    write_contact_sheet(images, output, count)
    for note in dataset.notes:
        show.remark(note)
    size = _sized(len(images), images.num_classes)
    show.facts(f"{dataset.name}, {part} part", [("holds", size), ("sheet", str(output))])


def _sized(images: int, classes: int) -> str:
    return f"{counted(images, 'image')} of {counted(classes, 'class', 'classes')}"


@app.command()
def write(
    spec: Spec,
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder, new or empty.")],
) -> None:
    """Write a built-in data set as PNG files, a folder per class below train/ and test/."""
    from gsp_deploy.data import open_dataset
    from gsp_deploy.data.writing import write_tree

    dataset = open_dataset(spec)
    total = len(dataset.train) + len(dataset.test)
    with show.counting("writing", total) as advance:
        write_tree(dataset, output, on_image=advance)
    rows = [("images", str(total)), ("folder", str(output)), ("read it with", f"folder:{output}")]
    show.facts(f"{dataset.name}, written", rows)

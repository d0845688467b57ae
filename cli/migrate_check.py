"""`gsp-deploy migrate-check`: may queries of a new artifact search an old gallery?"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gsp_deploy.base.choices import RuntimeWord
from gsp_deploy_cli.options.common import Json, Labels
from gsp_deploy_cli.options.groups import panel
from gsp_deploy_cli.options.inputs import existing_file, existing_images, existing_path
from gsp_deploy_cli.options.runtime import RuntimeOptions
from gsp_deploy_cli.tables import show

if TYPE_CHECKING:
    from gsp_deploy.parity.migration import Migration

limit_option = panel("Limits (default: those of the new model's precision)")


@dataclass(frozen=True)
class Limits:
    """How much the new queries may lose; None means the limit of the new model's precision."""

    max_flips: Annotated[
        float | None,
        limit_option(min=0, help="Share of queries whose nearest neighbour changes."),
    ] = None
    min_overlap: Annotated[
        float | None, limit_option(min=0, help="Share of the 10 nearest neighbours that stay.")
    ] = None
    max_recall_drop: Annotated[
        float | None, limit_option(min=0, help="Loss of R@1, in [0, 1].")
    ] = None
    max_map_drop: Annotated[float | None, limit_option(min=0, help="Loss of MAP@R, in [0, 1].")] = (
        None
    )


def migrate_check(
    *,
    gallery: Annotated[
        Path,
        typer.Option("--gallery", help="The old gallery, made by `index`.", callback=existing_path),
    ],
    old: Annotated[
        Path,
        typer.Option(
            help="A model that may search it: the one that filled it.", callback=existing_file
        ),
    ],
    new: Annotated[
        Path,
        typer.Option(help="The new model, engine or precision.", callback=existing_file),
    ],
    images: Annotated[
        list[str],
        typer.Option(
            "--images",
            help="The queries: a folder, file or glob pattern; repeatable.",
            callback=existing_images,
        ),
    ],
    labels: Labels = "folder",
    old_device: Annotated[str | None, typer.Option(help="Device of the old model.")] = None,
    old_runtime: Annotated[
        RuntimeWord | None,
        typer.Option(help="What runs an old ONNX model. (default: onnxruntime)"),
    ] = None,
    runtime: RuntimeOptions,
    limits: Limits,
    json: Json = False,
) -> None:
    """Check whether queries of a new model may search an old gallery. Exit code 3 if they may not.

    Both models embed the images and search the gallery. The command reports
    the neighbours lost, and the change of R@1 and MAP@R if the images of
    both are in class folders.
    """
    from gsp_deploy.images.files import ImageReader, find_images
    from gsp_deploy.parity.migration import check_migration
    from gsp_deploy.precision import tolerances_for
    from gsp_deploy.retrieval.embedding import EmbeddingTable, embed_files
    from gsp_deploy.retrieval.gallery import ModelIdentity, identity_of, open_gallery

    opened = open_gallery(gallery)
    reduced = opened.identity.reduced_jpeg
    files = find_images(images, show.note)
    of_old = runtime.for_other(old_device, old_runtime)
    sides: list[tuple[ModelIdentity, EmbeddingTable]] = []
    for model, options in ((old, of_old), (new, runtime)):
        with options.open(model, many=True) as session:
            identity = identity_of(session, reduced_jpeg=reduced)
            if not sides:
                opened.identity.warn_or_refuse(identity)  # before anything is embedded
            tolerances_for(identity.precision, asdict(limits))
            spec = session.info.require_preprocessing()
            reader = ImageReader(files, spec, reduced=reduced)
            with show.counting(f"embedding with {model.name}", len(files)) as advance:
                sides.append((identity, embed_files(session, reader, advance)))
    found = check_migration(
        opened, sides[0], sides[1], with_classes=labels == "folder", limits=asdict(limits)
    )
    if json:
        show.document("migrate-check", found.to_dict())
    else:
        _report(found, gallery)
    show.skipped([failure.reason for failure in sides[1][1].failures])
    found.raise_on_failure()


def _report(found: Migration, gallery: Path) -> None:
    from gsp_deploy_cli.tables.check import show_gates

    rows = [
        ("filled by", f"{found.gallery.file}, {found.gallery.precision}"),
        ("queries by", f"{found.new.file}, {found.new.precision}"),
        ("queries", f"{found.queries:,}, {found.members:,} of them in the gallery, left out there"),
        *((f"neighbours kept@{rank}", str(kept)) for rank, kept in found.kept_at.items()),
        *_qualities(found),
    ]
    show.facts(f"old gallery {gallery}", rows)
    show_gates(found.gates)
    if found.copies:
        show.remark(f"{found.copies} queries find a copy of themselves, which flatters both")
    if found.refusal is not None:
        show.remark(f"search would refuse this model ({found.refusal})")


def _qualities(found: Migration) -> list[tuple[str, str]]:
    old, new = found.old_quality, found.new_quality
    if old is None or new is None:
        return [("R@1, MAP@R", "not measured: no classes that queries and gallery share")]
    pairs = (
        ("R@1", old.recall_at_1, new.recall_at_1),
        ("MAP@R", old.map_at_r, new.map_at_r),
    )
    return [
        (name, f"{100 * a:.2f} -> {100 * b:.2f} % ({100 * (b - a):+.2f})") for name, a, b in pairs
    ]

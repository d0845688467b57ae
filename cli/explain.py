"""`gsp-deploy explain`: draw what the pooling keeps of images."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gsp_deploy_cli.options.common import Force, Images, Json, ModelFile
from gsp_deploy_cli.options.runtime import RuntimeOptions
from gsp_deploy_cli.tables import show

if TYPE_CHECKING:
    from gsp_deploy.explain import PoolingMaps

SHOWN_PICTURES = 10
NAME_WIDTH = 50


def explain(
    model: ModelFile,
    images: Images,
    *,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the PNG files.")],
    limit: Annotated[int, typer.Option(min=1, help="Images to draw, at most.")] = 64,
    runtime: RuntimeOptions,
    force: Force = False,
    json: Json = False,
) -> None:
    """Draw weight and prototype maps: what the pooling keeps of an image, by which prototype."""
    from gsp_deploy.base.files import refuse_inputs_inside, refuse_overwrite
    from gsp_deploy.explain import pooling_maps, write_map_panel
    from gsp_deploy.images.files import find_images, read_images

    files = find_images(images, show.note)
    refuse_inputs_inside(output, files)
    panels = _panels(output, files[:limit])
    for panel in panels.values():
        refuse_overwrite(panel, force)
    with runtime.open(model) as session:
        batch, failures = read_images(list(panels), session.info.require_preprocessing())
        maps = pooling_maps(session, batch.images)
    with show.counting("drawing", len(batch)) as advance:
        for index, file in enumerate(batch.files):
            write_map_panel(maps, index, panels[file])
            advance()
    show.skipped([failure.reason for failure in failures])
    if len(files) > limit:
        show.remark(f"{limit} of {len(files):,} images drawn; --limit draws more")
    _report(maps, [panels[file] for file in batch.files], json)


def _panels(folder: Path, files: list[Path]) -> dict[Path, Path]:
    """Return each image's PNG: the file's name, preceded by its folder if two names are equal."""
    stems = Counter(file.stem for file in files)
    names = {
        file: file.stem if stems[file.stem] == 1 else f"{file.parent.name}-{file.stem}"
        for file in files
    }
    seen: Counter[str] = Counter()
    panels = {}
    for file, name in names.items():
        seen[name] += 1
        number = f"-{seen[name]}" if seen[name] > 1 else ""
        panels[file] = folder / f"{name}{number}.png"
    return panels


def _report(maps: PoolingMaps, panels: list[Path], json: bool) -> None:
    attributes = maps.attributes
    rows = []
    for index, panel in enumerate(panels):
        weights = maps.weights[index]
        row: dict[str, Any] = {
            "file": str(panel),
            "smallest_weight": float(weights.min()),
            "largest_weight": float(weights.max()),
            "ignored_share": float((maps.kept[index] < 0.1).mean()),
        }
        if attributes is not None:
            row["attributes"] = attributes[index].tolist()
        rows.append(row)
    if json:
        show.document("explain", {"transport_ratio": maps.transport_ratio, "images": rows})
        return
    show.table(
        "Mixing weights; ignored: less than 0.1 kept",
        ("picture", "least", "most", "ignored"),
        [
            (
                show.elided(row["file"], NAME_WIDTH),
                f"{row['smallest_weight']:.2f}",
                f"{row['largest_weight']:.2f}",
                f"{row['ignored_share']:.0%}",
            )
            for row in rows[:SHOWN_PICTURES]
        ],
    )
    if len(rows) > SHOWN_PICTURES:
        show.out.print(show.more(len(rows) - SHOWN_PICTURES))

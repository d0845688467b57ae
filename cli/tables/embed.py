"""Show what `embed` wrote."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from gsp_deploy.base.words import counted
from gsp_deploy_cli.tables import show

if TYPE_CHECKING:
    from gsp_deploy.retrieval.dataset import DatasetManifest
    from gsp_deploy.retrieval.embedding import WrittenTable
    from gsp_deploy.retrieval.job import EmbeddingRun
    from gsp_deploy.runtime import SessionInfo


def show_table(table: WrittenTable, info: SessionInfo, json: bool) -> None:
    """Print the files, the number of images, the runtime, and the images that were left out."""
    ran_on = f"{info.runtime} {info.device}, {info.precision}"
    largest = {
        name: value if math.isfinite(value) else None for name, value in table.largest.items()
    }
    if json:
        failures = [{"file": name, "reason": reason} for name, reason in table.failures]
        found = {
            "files": [str(path) for path in table.files],
            "images": table.images,
            "embedding_dim": info.embedding_dim,
            "runtime": ran_on,
            "skipped": failures,
            **{f"largest_{name}": value for name, value in largest.items()},
        }
        show.document("embed", found)
        return
    size = f"{counted(table.images, 'image')}, {info.embedding_dim}-D"
    rows = [("embedded", size), ("runtime", ran_on)]
    for name, value in largest.items():
        words = "not a number" if value is None else f"{value:.1e}"
        rows.append((f"largest {name.replace('_', ' ')}", words))
    show.facts(", ".join(str(path) for path in table.files), rows)
    show.skipped([reason for _, reason in table.failures])


def show_dataset(
    folder: Path, run: EmbeddingRun, manifest: DatasetManifest | None, json: bool
) -> None:
    """Print the numbers of images and parts, and whether the data set is complete."""
    settings, counts = run.job.settings, run.counts
    ran_on = f"{settings.runtime}, {settings.model.precision}"
    if json:
        found = {
            "files": [str(folder)],
            "images": counts.images,
            "failures": counts.failures,
            "parts": counts.parts,
            "reused": counts.reused,
            "embedding_dim": settings.model.embedding_dim,
            "runtime": ran_on,
            "complete": manifest is not None,
        }
        show.document("embed", found)
        return
    size = f"{counted(counts.images, 'image')}, {settings.model.embedding_dim}-D"
    parts = counted(counts.parts, "part")
    if counts.reused:
        parts += f", {counts.reused:,} of them finished before"
    rows = [("embedded", size), ("parts", parts), ("runtime", ran_on)]
    if manifest is None:
        rows.append(("data set", "not complete: other shards have parts to do"))
    show.facts(str(folder), rows)
    if counts.failures:
        show.note(
            f"skipped {counted(counts.failures, 'image')} that cannot be read: "
            f"{folder}/failures-*.parquet"
        )

"""`gsp-deploy embed`: embed images into one table, or into a data set of any size."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gsp_deploy_cli.options.common import Force, Json, ModelFile, ReadingOptions
from gsp_deploy_cli.options.runtime import RuntimeOptions
from gsp_deploy_cli.options.sources import (
    ColumnOptions,
    DatasetOptions,
    SourceArguments,
    known_columns,
)
from gsp_deploy_cli.tables import show
from gsp_deploy_cli.tables.embed import show_dataset, show_table

if TYPE_CHECKING:
    from gsp_deploy.images.walking import PassedOver
    from gsp_deploy.sources import Sources


def embed(
    model: ModelFile,
    sources: SourceArguments,
    *,
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            help="A .npy, .npz or .parquet file; or a folder, for a data set that the same "
            "command continues after a kill.",
        ),
    ],
    also: Annotated[
        list[str] | None,
        typer.Option(
            help="Add a column: residual, the solver's error (.npz, .parquet, data set); weights "
            "or attributes (data set). Repeatable.",
            callback=known_columns,
        ),
    ] = None,
    reading: ReadingOptions,
    columns: ColumnOptions,
    dataset: DatasetOptions,
    runtime: RuntimeOptions,
    force: Force = False,
    json: Json = False,
) -> None:
    """Embed images in order; broken images are skipped and listed.

    An output without a suffix is a folder of Parquet parts with a manifest, for
    any number of images. The same command again does what is missing.
    """
    from gsp_deploy.sources import Sources

    asked = _Asked(model, output, tuple(also or ()), reading, runtime, force, json)
    is_table = output.suffix != "" and not output.is_dir()
    size = dataset.shard_size or 8192
    found = Sources(sources, size, columns.columns())
    if is_table:
        dataset.refuse()
        members = _embed_table(asked, found)
    else:
        members = _embed_dataset(asked, found, dataset, size)
    if passed_over := found.listing.passed_over + members:
        show.note(str(passed_over))


@dataclass(frozen=True)
class _Asked:
    """What both kinds of output have in common."""

    model: Path
    output: Path
    also: tuple[str, ...]
    reading: ReadingOptions
    runtime: RuntimeOptions
    force: bool
    json: bool


def _embed_table(asked: _Asked, sources: Sources) -> PassedOver:
    """Write the table, and return the counts of what was passed over in tar files."""
    from gsp_deploy.base.files import refuse_inputs_inside, refuse_overwrite
    from gsp_deploy.errors import UsageError
    from gsp_deploy.retrieval.embedding import certificates_of, embed_sources
    from gsp_deploy.retrieval.tables import check_table_path, table_files

    check_table_path(asked.output, with_columns=bool(asked.also))
    if lists := set(asked.also) - {"residual"}:
        raise UsageError(
            f"--also {min(lists)} needs a data set; give a folder as --output, without a suffix"
        )
    for file in table_files(asked.output):
        refuse_inputs_inside(file, [asked.model, *map(Path, sources.arguments)])
        refuse_overwrite(file, asked.force)
    next(iter(sources))  # refuses a source that does not exist before the model opens
    with asked.runtime.open(asked.model, many=True) as session:
        columns = certificates_of(session) if asked.also else ()
        with show.counting("embedding", None) as advance:
            table = embed_sources(
                session,
                sources,
                asked.output,
                batch=asked.reading.batch,
                strict=asked.reading.strict,
                columns=columns,
                reduced_jpeg=asked.reading.reduced_jpeg,
                progress=advance,
            )
        show_table(table, session.info, asked.json)
    return table.passed_over


def _embed_dataset(
    asked: _Asked, sources: Sources, dataset: DatasetOptions, shard_size: int
) -> PassedOver:
    """Write the data set, and return the counts of what was passed over in tar files."""
    from gsp_deploy.retrieval.tables import pyarrow_modules

    pyarrow_modules()
    from gsp_deploy.retrieval.job import EmbeddingRun, Job, sole_run
    from gsp_deploy.retrieval.job.settings import Wanted

    next(iter(sources))
    shard = dataset.share()
    options = asked.runtime.for_model(asked.model)
    # One thread: the parts do not depend on the number of cores, and processes use the others.
    options = replace(options, threads=options.threads or 1)
    wanted = Wanted(
        dataset.store or "float32",
        asked.also,
        asked.reading.batch,
        shard_size,
        sources.columns,
        asked.reading.reduced_jpeg,
    )
    place = dataset.place(options.device)
    model, folder = asked.model.absolute(), asked.output.absolute()
    with sole_run(folder, shard.name):
        settings = place.settings_of(model, options, wanted)
        job = Job(model, options, settings, folder, asked.reading.strict, place.decoders)
        run = EmbeddingRun(job, sources, shard, asked.force, show.note)
        with show.counting("embedding", None) as advance:
            for part in run.parts(place.run):
                advance(part.images + part.failures)
        manifest = run.finish()
    show_dataset(asked.output, run, manifest, asked.json)
    return run.counts.passed_over

"""Options of `gsp-deploy embed`: which images it reads, and how it makes a data set of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from gsp_deploy_cli.options.groups import panel
from gsp_deploy_cli.options.inputs import existing_sources

if TYPE_CHECKING:
    from gsp_deploy.retrieval.job import Shard
    from gsp_deploy.retrieval.job.place import Place
    from gsp_deploy.sources import Columns

table_option = panel("Tables of images")
dataset_option = panel("Data sets (a folder as output)")

SourceArguments = Annotated[
    list[str],
    typer.Argument(
        help="Folders, files, glob patterns, lists (.txt, .csv), tar files, Parquet or Arrow "
        "tables, on this machine or as URLs (s3://, gs://, az://, https://).",
        callback=existing_sources,
    ),
]


FURTHER_COLUMNS = ("residual", "weights", "attributes")


def known_columns(given: list[str] | None) -> list[str] | None:
    """Raise `UsageError` unless these are columns that a data set can have."""
    from gsp_deploy.errors import UsageError

    for name in given or ():
        if name not in FURTHER_COLUMNS:
            raise UsageError(f"--also must be one of {', '.join(FURTHER_COLUMNS)}, got {name!r}")
    return given


@dataclass(frozen=True)
class ColumnOptions:
    """The columns of .csv, .parquet and .arrow files."""

    image_column: Annotated[
        str | None,
        table_option(help="Column with the images or their paths. (default: by name and type)"),
    ] = None
    id_column: Annotated[
        str | None, table_option(help="Column with a unique id. (default: the path or the row)")
    ] = None

    def columns(self) -> Columns:
        """Return the columns' names."""
        from gsp_deploy.sources import Columns

        return Columns(self.image_column, self.id_column)


@dataclass(frozen=True)
class DatasetOptions:
    """How a data set is cut into parts, and who computes them. None means the default."""

    shard_size: Annotated[
        int | None, dataset_option(min=1, help="Most images in a part. (default: 8192)")
    ] = None
    store: Annotated[
        Literal["float32", "float16", "int8"] | None,
        dataset_option(help="Element type of the stored embeddings. (default: float32)"),
    ] = None
    workers: Annotated[
        int | None,
        dataset_option(min=1, help="Processes. (default: one per core, or one per GPU)"),
    ] = None
    shard: Annotated[
        str | None,
        dataset_option(help="Embed share i of n alone, as 0/8; n such runs make the data set."),
    ] = None
    on: Annotated[
        Literal["local", "ray"] | None,
        dataset_option(help="This machine, or a Ray cluster. (default: local)"),
    ] = None
    address: Annotated[
        str | None,
        dataset_option(
            help="Address of the Ray cluster. (default: RAY_ADDRESS, or a new one here)"
        ),
    ] = None

    def refuse(self) -> None:
        """Raise `UsageError` if one of the options is given, because the output is one file."""
        from gsp_deploy.errors import UsageError

        for name, value in vars(self).items():
            if value is not None:
                raise UsageError(
                    f"--{name.replace('_', '-')} belongs to a data set; give a folder as --output, "
                    "without a suffix"
                )

    def share(self) -> Shard:
        """Return the share of this run.

        Raises:
            UsageError: it has another form than i/n.
        """
        from gsp_deploy.retrieval.job import Shard

        return Shard() if self.shard is None else Shard.parse(self.shard)

    def place(self, device: str) -> Place:
        """Return where the workers run.

        Raises:
            UsageError: the options contradict each other.
        """
        from gsp_deploy.errors import UsageError
        from gsp_deploy.retrieval.job.place import ThisMachine

        if self.on == "ray":
            from gsp_deploy.retrieval.job.ray_place import RayCluster

            return RayCluster(device, self.workers, self.address)
        if self.address is not None:
            raise UsageError("--address belongs to --on ray; add it, or leave --address out")
        return ThisMachine(device, self.workers)

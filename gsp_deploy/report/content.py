"""The parts of a report section: tables, charts and pictures, before they become HTML or Markdown.

Everything that a chart or a picture shows is also in a table of the same section. The HTML page
folds that table away. The Markdown report has tables only, so it still says the same.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import ClassVar

from markupsafe import Markup

from gsp_deploy.report.figures import is_figure
from gsp_deploy.report.neighbours import Strip, Tile
from gsp_deploy.report.panels import Panel


@dataclass(frozen=True)
class Table:
    """A table: column names, and rows of text.

    Attributes:
        caption: what it shows; empty if the section's title already says it.
        columns: column names; the first column names the rows.
        rows: text, one cell per column.
        bad: indices of rows to mark as failed.
        folded: on the HTML page, show only the caption until the reader opens the table.
        note: text below the table.
    """

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    bad: frozenset[int] = frozenset()
    folded: bool = False
    note: str = ""

    kind: ClassVar[str] = "table"

    @property
    def numeric(self) -> frozenset[int]:
        """Indices of the columns that contain only figures; they are aligned right."""
        return frozenset(
            index
            for index in range(1, len(self.columns))
            if all(is_figure(row[index]) for row in self.rows)
        )


@dataclass(frozen=True)
class Key:
    """One entry of a legend: a name, and its mark or colour."""

    name: str
    swatch: Markup


@dataclass(frozen=True)
class Chart:
    """A chart: what it shows, a sentence on how to read it, the SVG, and its legend."""

    title: str
    caption: str
    svg: Markup
    legend: tuple[Key, ...] = ()

    kind: ClassVar[str] = "chart"


@dataclass(frozen=True)
class Neighbours:
    """Queries with their neighbours before and after."""

    strips: tuple[Strip, ...]

    kind: ClassVar[str] = "neighbours"


@dataclass(frozen=True)
class Maps:
    """Images with maps of what the pooling keeps."""

    panels: tuple[Panel, ...]

    kind: ClassVar[str] = "maps"


@dataclass(frozen=True)
class Hits:
    """Searches as pictures: each starts with the query, followed by what the search found."""

    searches: tuple[tuple[Tile, ...], ...]

    kind: ClassVar[str] = "hits"


Block = Table | Chart | Neighbours | Maps | Hits


@dataclass(frozen=True)
class Section:
    """One section: a title, a text that explains the values and which are good, and the blocks."""

    title: str
    text: str
    blocks: tuple[Block, ...]

    @property
    def anchor(self) -> str:
        """The section's anchor on the page, from its title."""
        return re.sub(r"\W+", "-", self.title.lower())

    @property
    def tables(self) -> tuple[Table, ...]:
        """Only the tables."""
        return tuple(block for block in self.blocks if isinstance(block, Table))

    def runs(self) -> list[tuple[str, list[Block]]]:
        """Return the blocks grouped into runs of one kind, with folded tables last."""
        blocks = sorted(self.blocks, key=_is_folded)
        return [(kind, list(run)) for kind, run in groupby(blocks, key=lambda block: block.kind)]


def _is_folded(block: Block) -> bool:
    return isinstance(block, Table) and block.folded


def rows_from(*columns: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """Return the rows of a table from its columns.

    >>> rows_from(["a", "b"], ["1", "2"])
    (('a', '1'), ('b', '2'))
    """
    return tuple(zip(*columns, strict=True))

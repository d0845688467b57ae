"""What a section of the report holds: tables, charts, pictures, before they are HTML or Markdown.

Everything that a chart or a picture shows stands in a table of the same section too, folded away on
the page, so that the Markdown twin, which has the tables only, says the same.
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
    """A table: the columns' names and rows of words.

    Attributes:
        caption: what it shows; empty where the section's title says it.
        columns: their names; the first names its rows.
        rows: words, as many in each as there are columns.
        bad: indices of rows to mark.
        folded: it stands behind a line that opens it, on the page.
        note: what stands below it.
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
        """The columns that hold figures, which are set to the right."""
        return frozenset(
            index
            for index in range(1, len(self.columns))
            if all(is_figure(row[index]) for row in self.rows)
        )


@dataclass(frozen=True)
class Key:
    """One entry of a legend: what a mark or a colour stands for."""

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
    """Images with what the pooling keeps of them."""

    panels: tuple[Panel, ...]

    kind: ClassVar[str] = "maps"


@dataclass(frozen=True)
class Hits:
    """Searches as pictures: in each, the query first and then what it found."""

    searches: tuple[tuple[Tile, ...], ...]

    kind: ClassVar[str] = "hits"


Block = Table | Chart | Neighbours | Maps | Hits


@dataclass(frozen=True)
class Section:
    """One section: its title, what it says and what a good value is, and what stands in it."""

    title: str
    text: str
    blocks: tuple[Block, ...]

    @property
    def anchor(self) -> str:
        """The section's address on the page."""
        return re.sub(r"\W+", "-", self.title.lower())

    @property
    def tables(self) -> tuple[Table, ...]:
        """Its tables alone."""
        return tuple(block for block in self.blocks if isinstance(block, Table))

    def runs(self) -> list[tuple[str, list[Block]]]:
        """Return the blocks with neighbours of one kind together, what is folded at the end."""
        blocks = sorted(self.blocks, key=_is_folded)
        return [(kind, list(run)) for kind, run in groupby(blocks, key=lambda block: block.kind)]


def _is_folded(block: Block) -> bool:
    return isinstance(block, Table) and block.folded


def rows_from(*columns: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """Return the rows of a table that is given by its columns."""
    return tuple(zip(*columns, strict=True))

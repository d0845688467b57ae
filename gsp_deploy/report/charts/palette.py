"""Colours and marks of artifacts, the same in every chart and table of a page.

Colours are CSS variables of `page.css`, one set for light mode and one for dark. Colour-blind
readers can distinguish the artifacts' colours, and consecutive artifacts also differ in shape.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from matplotlib.markers import MarkerStyle

ARTIFACTS = tuple(f"a{index}" for index in range(1, 8))
SHADES = tuple(f"s{index}" for index in range(1, 7))
_VARIABLES = ("ink", "soft", "faint", "card", "bad", "good", *ARTIFACTS, *SHADES)
_STAND_IN = "#0101"
_SHAPES = "osD^vP*X"


def colour(variable: str) -> str:
    """Return the placeholder colour that Matplotlib draws with for a variable of the page."""
    return f"{_STAND_IN}{_VARIABLES.index(variable):02x}"


def with_variables(text: str) -> str:
    """Replace the placeholder colours by the page's variables."""
    return re.sub(
        rf"{_STAND_IN}([0-9a-f]{{2}})\b",
        lambda match: f"var(--{_VARIABLES[int(match[1], 16)]})",
        text,
    )


@dataclass(frozen=True)
class Mark:
    """How an artifact is drawn: a variable of the page, and Matplotlib's letter for a shape."""

    variable: str
    shape: str

    @property
    def colour(self) -> str:
        """The placeholder colour for Matplotlib."""
        return colour(self.variable)

    @property
    def swatch(self) -> Markup:
        """The mark as an inline SVG, as high as a letter."""
        style = MarkerStyle(self.shape)
        path = style.get_path().transformed(style.get_transform())
        corners = np.asarray(path.to_polygons()[0])
        largest = abs(corners).max()
        where = " ".join(f"{5 * x / largest:.1f},{-5 * y / largest:.1f}" for x, y in corners)
        return Markup(
            '<svg class="swatch" viewBox="-6 -6 12 12" aria-hidden="true">'
            f'<polygon points="{where}" fill="var(--{self.variable})"/></svg>'
        )


PLAIN = Mark("soft", "o")


def marks_of(names: Sequence[str]) -> dict[str, Mark]:
    """Give each name a mark.

    The first 56 differ in colour or shape, and any seven consecutive ones differ in both.
    """
    return {
        name: Mark(ARTIFACTS[index % len(ARTIFACTS)], _SHAPES[index % len(_SHAPES)])
        for index, name in enumerate(names)
    }


def shade(index: int) -> str:
    """Return the variable for the n-th part of a stacked bar."""
    return SHADES[index % len(SHADES)]


def square(variable: str) -> Markup:
    """Return a square of one colour, for the legend of a stacked bar."""
    return Mark(variable, "s").swatch

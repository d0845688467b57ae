"""Convert a Matplotlib figure to SVG that fits the page.

Charts are drawn as wide as a phone's column and scale with their card, so their text is as large as
the page's. They are drawn in placeholder colours, which become the page's CSS variables.
"""

from __future__ import annotations

import io
import re
from html import escape
from itertools import count
from typing import Any

import matplotlib as mpl
from markupsafe import Markup
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gsp_deploy.report.charts.palette import colour, with_variables

WIDTH = 4.6  # inches at 72 to the inch: 331 units, a phone's column
LETTERS, SMALL = 11, 10
_TIP = "tip:"
_numbers = count()

STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "gsp-deploy",
    "font.family": "sans-serif",
    "font.size": SMALL,
    "text.color": colour("ink"),
    "axes.labelcolor": colour("soft"),
    "axes.edgecolor": colour("faint"),
    "xtick.color": colour("soft"),
    "ytick.color": colour("soft"),
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": colour("faint"),
    "grid.linewidth": 0.6,
}


def new_axes(height: float, left: float, bottom: float) -> tuple[Figure, Axes]:
    """Return a figure and its axes; height and the margins left and below are in inches."""
    figure = Figure(figsize=(WIDTH, height))
    right, top = 0.14, 0.1
    box = (left / WIDTH, bottom / height, (WIDTH - left - right) / WIDTH)
    return figure, figure.add_axes((*box, (height - bottom - top) / height))


def tip(artist: Artist, text: str) -> None:
    """Show `text` when the pointer is over the artist."""
    artist.set_gid(_TIP + text)


@mpl.rc_context(STYLE)
def svg(figure: Figure, label: str) -> Markup:
    """Return the figure as an SVG element with a label for screen readers.

    Its ids are unique on the page, even with several charts.
    """
    stream = io.StringIO()
    figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None}, transparent=True)
    text = stream.getvalue()
    head, body = text[text.index("<svg") :].split(">", 1)
    box = re.search(r'viewBox="[^"]+"', head)
    assert box is not None
    body = re.sub(r" ?<metadata>.*?</metadata>\n?", "", body, flags=re.DOTALL)
    body = re.sub(rf'<g id="{_TIP}([^"]*)">', r"<g><title>\1</title>", body)
    body = re.sub(r"font: ([\d.]+)px[^;\"]*", r"font: \1px system-ui, sans-serif", body)
    head = (
        f'<svg {box[0]} role="img" aria-label="{escape(label)}" '
        'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    )
    return Markup(_with_own_ids(f"{head}>{with_variables(body)}", next(_numbers)))


def _with_own_ids(text: str, number: int) -> str:
    """Prefix the ids that are referred to, and remove the others."""
    used = set(re.findall(r'(?:"#|url\(#)([^")]+)', text))

    def renamed(match: re.Match[str]) -> str:
        return f' id="c{number}-{match[1]}"' if match[1] in used else ""

    text = re.sub(r' id="([^"]+)"', renamed, text)
    return re.sub(r'("#|url\(#)', rf"\1c{number}-", text)

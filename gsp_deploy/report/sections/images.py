"""The sections with pictures: neighbours before and after, and what the pooling keeps."""

from __future__ import annotations

from gsp_deploy.report.content import Block, Maps, Neighbours, Section, Table
from gsp_deploy.report.figures import DASH
from gsp_deploy.report.neighbours import Strip
from gsp_deploy.report.panels import Panel
from gsp_deploy.report.pictures import Pictures

_KEPT_TEXT = (
    "From the left: the image as the network sees it; the image with each location as bright as "
    "its kept share; the kept share itself, with the range of the mixing weights w (mean 1); the "
    "prototype that takes most of each location, paler where less is kept. Good: the object is "
    "bright and the background is dark."
)


def neighbours(pictures: Pictures | None) -> Section | None:
    """Show queries with their neighbours in both models; None without pictures."""
    if pictures is None:
        return None
    text = (
        f"{pictures.changed:,} of {pictures.queries:,} images have another order of their nearest "
        f"images in {pictures.candidate} than in {pictures.reference}; those come first. Green "
        "frame: the query's class. Red frame with a cross: another class. Dashed frame: the two "
        "models have different images at this rank."
    )
    table = Table(
        "Neighbours by name",
        ("query", "before", "after", "order"),
        tuple(_strip_row(strip) for strip in pictures.strips),
        folded=True,
    )
    return Section("Neighbours before and after", text, (Neighbours(pictures.strips), table))


def kept(pictures: Pictures | None) -> Section | None:
    """Show what the pooling keeps of images; None if there are no maps and no note says why."""
    if pictures is None or not (pictures.panels or pictures.notes):
        return None
    if not pictures.panels:
        return Section("What the pooling keeps", f"{'; '.join(pictures.notes)}.", ())
    table = Table(
        "In figures: the range of the weights, the share of locations with half of the kept mass, "
        "and the prototypes that took most",
        ("image", "least w", "greatest w", "half in", "prototypes"),
        tuple(_panel_row(panel) for panel in pictures.panels),
        folded=True,
    )
    blocks: tuple[Block, ...] = (Maps(pictures.panels), table)
    return Section("What the pooling keeps", " ".join([_KEPT_TEXT, *pictures.notes]), blocks)


def _strip_row(strip: Strip) -> tuple[str, ...]:
    before, after = (", ".join(t.name for t in side) for side in (strip.before, strip.after))
    return strip.query.name, before, after, "changed" if strip.changed else "same"


def _panel_row(panel: Panel) -> tuple[str, ...]:
    prototypes = ", ".join(f"{index}: {share:.0%}" for index, share in panel.prototypes)
    weights = f"{panel.least:.2f}", f"{panel.greatest:.2f}"
    return panel.name, *weights, f"{panel.half_in:.0%}", f"no. {prototypes}" if prototypes else DASH

"""The HTML page: one file without references to anything outside, light or dark by itself."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

import gsp_deploy
from gsp_deploy.report import charts, tables
from gsp_deploy.report.checks import Check
from gsp_deploy.report.documents import Documents
from gsp_deploy.report.pictures import Pictures
from gsp_deploy.report.tables import Table

COSINE_GATE, WEIGHT_GATE = "cosine distance", "weight error / spread"


@dataclass(frozen=True)
class Chart:
    """One chart: what it shows, a sentence on how to read it, and the SVG."""

    title: str
    caption: str
    svg: Markup


def html_page(title: str, documents: Documents, pictures: Pictures | None = None) -> str:
    """Return the report as one self-contained HTML file."""
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.from_string(
        files("gsp_deploy.report").joinpath("page.html.j2").read_text(encoding="utf-8")
    )
    return template.render(
        title=title,
        version=gsp_deploy.__version__,
        documents=documents,
        failed=[check.name for check in documents.checks if not check.passed],
        tables=tables,
        parity_charts=_parity_charts(documents.checks),
        latency_charts=_latency_charts(documents),
        layers=layer_tables(documents),
        convergence=_convergence(pictures),
        pictures=pictures,
    )


def layer_tables(documents: Documents) -> list[Table]:
    """Return the tables of engines' layers: by part and time where measured, and by type."""
    found = [table for report in documents.benchmarks for table in tables.layers_tables(report)]
    types = tables.layer_types_table(documents.artifacts)
    return found if types is None else [*found, types]


def _parity_charts(checks: tuple[Check, ...]) -> list[Chart]:
    if not checks:
        return []
    names = _distinct([check.name for check in checks])
    pairs = list(zip(names, checks, strict=True))
    cosine = charts.error_distributions(
        {name: check.cosine for name, check in pairs}, _limits(pairs, COSINE_GATE)
    )
    found = [Chart("1 - cos of the embeddings, by image", _READING, Markup(cosine))]
    weighed = [(name, check) for name, check in pairs if check.weights is not None]
    if weighed:
        weights = charts.error_distributions(
            {name: check.weights for name, check in weighed if check.weights is not None},
            _limits(weighed, WEIGHT_GATE),
        )
        title = "error of the mixing weights over their spread, by image"
        found.append(Chart(title, _READING, Markup(weights)))
    return found


_READING = (
    "Height: images in each decade (square root). Triangle: the worst image. "
    "Red line: the gate's limit."
)


def _limits(pairs: list[tuple[str, Check]], gate: str) -> dict[str, float]:
    limits = {name: check.limit_of(gate) for name, check in pairs}
    return {name: limit for name, limit in limits.items() if limit is not None}


def _latency_charts(documents: Documents) -> list[Chart]:
    found = []
    for report in documents.benchmarks:
        for batch in report.settings.batches:
            drawn = charts.latencies(report, batch)
            found.append(
                Chart(
                    f"latency, batch {batch}",
                    "Dot: p50. Tick: p90. End of the line: p99. Orange: the same network with "
                    "average pooling, p50.",
                    Markup(drawn),
                )
            )
            if share := charts.pooling_share(report, batch):
                found.append(
                    Chart(
                        f"time over average pooling, batch {batch}",
                        "Median and quartiles over rounds that both took part in; orange: equal.",
                        Markup(share),
                    )
                )
        if curve := charts.throughputs(report):
            found.append(Chart("throughput", "At p50, by batch size.", Markup(curve)))
    return found


def _convergence(pictures: Pictures | None) -> Chart | None:
    if pictures is None or pictures.convergence is None:
        return None
    certified = pictures.convergence.certified
    mark = ""
    if certified is not None:
        mark = (
            f" Star: the export's certificate, {certified[0]} steps in float32 with an error of "
            f"{certified[1]:.1e} on its calibration images."
        )
    return Chart(
        "worst weight error over the weights' spread, by solver steps",
        f"On the images of this report, in float64, against a bisection.{mark}",
        Markup(charts.convergence(pictures.convergence)),
    )


def _distinct(names: list[str]) -> list[str]:
    """Number the names that occur more than once."""
    return [
        name if names.count(name) == 1 else f"{name} ({names[: index + 1].count(name)})"
        for index, name in enumerate(names)
    ]

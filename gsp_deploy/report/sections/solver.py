"""The section on the solver: its convergence, and what each export proves and measures."""

from __future__ import annotations

from collections.abc import Mapping

from gsp_deploy.artifact import CONVERGED, SolverCertificate
from gsp_deploy.base.words import counted
from gsp_deploy.report.charts.curves import Line, Scale, curves
from gsp_deploy.report.charts.palette import PLAIN, Mark, marks_of
from gsp_deploy.report.content import Block, Chart, Key, Section, Table
from gsp_deploy.report.convergence import Convergence
from gsp_deploy.report.documents import Documents
from gsp_deploy.report.figures import DASH, scientific
from gsp_deploy.report.pictures import Pictures

_TEXT = (
    "The pooling solves one scalar equation per image. Guaranteed: for the certified solver, a "
    "bound on the error of a mixing weight (mean 1) for every input, float32 rounding included. "
    "Measured, on the calibration images only: the worst weight error against a float64 root, "
    "relative to the image's spread of weights. Good: below "
    f"{CONVERGED:g}, which counts as converged."
)
_TITLE = "Weight error by solver steps"
_TICKS = (1, 2, 5, 10, 20, 50, 100)
_NEWTON, _FIXED_POINT, _CERTIFIED = Mark("ink", "o"), Mark("soft", "s"), Mark("ink", "d")


def solver(documents: Documents, pictures: Pictures | None) -> Section | None:
    """Show certificates and convergence; None if there is neither."""
    certificates = _certificates(documents, pictures)
    convergence = None if pictures is None else pictures.convergence
    blocks: list[Block] = [_table(certificates)] if certificates else []
    if convergence is not None:
        chart = _curves(convergence, certificates, marks_of(documents.names))
        blocks += [chart, _in_figures(convergence)]
    return Section("Solver", _TEXT, tuple(blocks)) if blocks else None


def _certificates(documents: Documents, pictures: Pictures | None) -> dict[str, SolverCertificate]:
    """Return the certificates by artifact name, including the model of the pictures."""
    found = {
        artifact.name: artifact.export.certificate
        for artifact in documents.artifacts
        if artifact.export is not None and artifact.export.certificate is not None
    }
    if pictures is not None and pictures.certificate is not None:
        found.setdefault(pictures.candidate, pictures.certificate)
    return found


def _table(certificates: Mapping[str, SolverCertificate]) -> Table:
    rows = tuple(
        (
            name,
            c.steps_in_words,
            DASH if c.guarantee is None else scientific(c.guarantee.weight_error),
            DASH if c.guarantee is None else scientific(c.guarantee.method_error),
            scientific(c.worst_relative_weight_error),
            scientific(c.worst_weight_error),
            scientific(c.worst_marginal_error),
            "converged" if c.is_converged else "NOT converged",
            f"{counted(c.images, 'image')}: {c.calibration}",
        )
        for name, c in certificates.items()
    )
    return Table(
        "Guaranteed for any input, and measured on images",
        (
            "artifact",
            "solver",
            "guarantee",
            "method / spread",
            "measured / spread",
            "measured",
            "|mean w − 1|",
            "outcome",
            "measured on",
        ),
        rows,
        frozenset(i for i, c in enumerate(certificates.values()) if not c.is_converged),
    )


def _curves(
    found: Convergence, certificates: Mapping[str, SolverCertificate], marks: Mapping[str, Mark]
) -> Chart:
    lines = [
        Line("Newton", _NEWTON, found.newton),
        Line("certified", _CERTIFIED, found.certified),
        Line("fixed point, as in the paper", _FIXED_POINT, found.fixed_point),
        *(
            Line(name, marks.get(name, PLAIN), [(c.steps, c.worst_relative_weight_error)])
            for name, c in certificates.items()
            if c.steps
        ),
    ]
    steps, errors = Scale("solver steps", "log", _TICKS), Scale("worst error / spread", "log")
    caption = (
        "Lines: in float64, on the images of this report, against a bisection. Large marks: the "
        "exports in float32, measured on their calibration images."
    )
    legend = tuple(Key(line.name, line.mark.swatch) for line in lines)
    return Chart(_TITLE, caption, curves(lines, steps, errors, _TITLE), legend)


def _in_figures(found: Convergence) -> Table:
    newton, fixed = dict(found.newton), dict(found.fixed_point)
    certified = dict(found.certified)
    return Table(
        f"{_TITLE}, in figures",
        ("steps", "certified", "Newton", "fixed point"),
        tuple(
            (
                str(steps),
                scientific(certified.get(steps)),
                scientific(newton.get(steps)),
                scientific(fixed.get(steps)),
            )
            for steps in sorted({*certified, *newton, *fixed})
        ),
        folded=True,
    )

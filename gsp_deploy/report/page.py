"""Write the report as one HTML file: it loads nothing from elsewhere, and has a dark mode."""

from __future__ import annotations

from importlib.resources import files

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

import gsp_deploy
from gsp_deploy.base.words import counted
from gsp_deploy.report.charts.palette import marks_of
from gsp_deploy.report.documents import Documents
from gsp_deploy.report.pictures import Pictures
from gsp_deploy.report.sections import all_sections


def html_page(title: str, documents: Documents, pictures: Pictures | None = None) -> str:
    """Return the report as one self-contained HTML file."""
    environment = Environment(
        loader=FunctionLoader(_asset),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html.j2").render(
        title=title,
        style=Markup(_asset("page.css")),
        version=gsp_deploy.__version__,
        passed=all(check.passed for check in documents.checks) if documents.checks else None,
        verdict=verdict(documents),
        marks=marks_of(documents.names),
        sections=all_sections(documents, pictures),
    )


def verdict(documents: Documents) -> str | None:
    """Return one line that says whether every parity gate passed; None if nothing was checked."""
    checks = documents.checks
    if not checks:
        return None
    if failed := dict.fromkeys(check.name for check in checks if not check.passed):
        return f"parity gates failed: {', '.join(failed)}"
    artifacts = counted(len({check.name for check in checks}), "artifact")
    images = counted(max(check.images for check in checks), "image")
    return f"every parity gate passed: {artifacts} on {images}"


def _asset(name: str) -> str:
    return files("gsp_deploy.report").joinpath(name).read_text(encoding="utf-8")

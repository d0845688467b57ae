"""The sections of a report: each builds its text, tables and charts from the documents."""

from __future__ import annotations

from gsp_deploy.report.content import Section
from gsp_deploy.report.documents import Documents
from gsp_deploy.report.pictures import Pictures
from gsp_deploy.report.sections.deployed import deployed
from gsp_deploy.report.sections.engines import layers, stages
from gsp_deploy.report.sections.environment import environment
from gsp_deploy.report.sections.glance import glance
from gsp_deploy.report.sections.images import kept, neighbours
from gsp_deploy.report.sections.latency import latency
from gsp_deploy.report.sections.parity import parity
from gsp_deploy.report.sections.retrieval import retrieval
from gsp_deploy.report.sections.search import search
from gsp_deploy.report.sections.solver import solver
from gsp_deploy.report.sections.sustained import sustained


def all_sections(documents: Documents, pictures: Pictures | None) -> list[Section]:
    """Return the sections that have content, in the page's order."""
    found = (
        glance(documents),
        deployed(documents),
        parity(documents),
        retrieval(documents),
        neighbours(pictures),
        search(documents),
        latency(documents),
        stages(documents),
        layers(documents),
        sustained(documents),
        solver(documents, pictures),
        kept(pictures),
        environment(documents),
    )
    return [section for section in found if section is not None]

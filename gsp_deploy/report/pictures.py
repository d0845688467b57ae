"""Make the pictures of a report: neighbours before and after, and what the pooling keeps."""

from __future__ import annotations

from dataclasses import dataclass

from gsp_deploy.artifact import SolverCertificate
from gsp_deploy.errors import UsageError
from gsp_deploy.explain import pooling_maps
from gsp_deploy.images.files import ImageBatch
from gsp_deploy.report.convergence import Convergence, measure_convergence
from gsp_deploy.report.neighbours import Strip, compare_neighbours
from gsp_deploy.report.panels import Panel, panels_of
from gsp_deploy.runtime import EmbeddingSession


@dataclass(frozen=True)
class Pictures:
    """The pictures of a report.

    Attributes:
        reference, candidate: file names of the two models.
        strips: images with their neighbours; those with changed neighbours come first.
        changed: how many images have a different order of neighbours.
        queries: how many images were compared.
        panels: weight maps.
        convergence: of the solvers on these images; None if the candidate gives no scores.
        certificate: of the candidate's solver; None if there is none.
        notes: what could not be shown, and why.
    """

    reference: str
    candidate: str
    strips: tuple[Strip, ...]
    changed: int
    queries: int
    panels: tuple[Panel, ...]
    convergence: Convergence | None
    certificate: SolverCertificate | None
    notes: tuple[str, ...]


def take_pictures(
    reference: EmbeddingSession, candidate: EmbeddingSession, batch: ImageBatch
) -> Pictures:
    """Compare two models' neighbours on images, and map what the candidate's pooling keeps.

    Args:
        reference, candidate: open models that take the same images.
        batch: at least two uint8 images of the models' input size.

    Raises:
        UsageError: there are fewer than two images, or a model does not take their size.
    """
    if len(batch) < 2:
        raise UsageError(f"a report's pictures need at least 2 images, got {len(batch)}")
    before, after = (session.embed(batch.images) for session in (reference, candidate))
    strips, changed = compare_neighbours(before, after, batch)
    panels, convergence, notes = _maps(candidate, batch)
    manifest = candidate.info.manifest
    return Pictures(
        reference=reference.info.path.name,
        candidate=candidate.info.path.name,
        strips=strips,
        changed=changed,
        queries=len(batch),
        panels=panels,
        convergence=convergence,
        certificate=None if manifest is None else manifest.certificate,
        notes=notes,
    )


def _maps(
    session: EmbeddingSession, batch: ImageBatch
) -> tuple[tuple[Panel, ...], Convergence | None, tuple[str, ...]]:
    try:
        maps = pooling_maps(session, batch.images)
    except UsageError as error:  # average pooling, or an export without the weights
        return (), None, (f"no weight maps: {error}",)
    return panels_of(maps, batch.files), measure_convergence(maps), ()

"""Compare two sessions on image files, which are decoded batch by batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from gsp_deploy.base.progress import Advance
from gsp_deploy.errors import UsageError
from gsp_deploy.images.files import ImageReader, class_labels
from gsp_deploy.parity.outputs import run_both, shared_preprocessing
from gsp_deploy.parity.report import CHUNK, ParityReport, TestedImages, judge
from gsp_deploy.precision import Tolerances
from gsp_deploy.runtime.session import EmbeddingSession


def image_reader(
    reference: EmbeddingSession,
    candidate: EmbeddingSession,
    files: Sequence[Path],
    strict: bool = False,
) -> ImageReader:
    """Return a reader that prepares files for both models.

    Raises:
        UsageError: they prepare images differently, or neither has preprocessing settings.
    """
    spec = shared_preprocessing(reference, candidate)
    if spec is None:
        raise UsageError(
            f"neither {reference.info.path} nor {candidate.info.path} says how images are "
            "prepared; compare feature maps from Python with gsp_deploy.parity.compare_sessions"
        )
    return ImageReader(files, spec, CHUNK, strict)


def compare_files(
    reference: EmbeddingSession,
    candidate: EmbeddingSession,
    reader: ImageReader,
    *,
    labels_from_folders: bool = True,
    tolerances: Tolerances | None = None,
    progress: Advance | None = None,
) -> ParityReport:
    """Compare two models on image files; see `compare_sessions`.

    Args:
        reference: the model to compare with.
        candidate: the model to check.
        reader: the files, as `image_reader` prepares them for both.
        labels_from_folders: use a file's folder as its class, if the folders can be classes.
        tolerances: limits; None takes those of the candidate's precision.
        progress: called with the number of images done since the last call.
    """
    files: list[Path] = []
    samples: list[np.ndarray] = []

    def batches() -> Iterator[np.ndarray]:
        for batch in reader:
            files.extend(batch.files)
            if not samples:
                samples.append(batch.images)
            yield batch.images
            if progress is not None:
                progress(len(batch))

    paired = run_both(reference, candidate, batches())
    labels = class_labels(files) if labels_from_folders else None
    skipped = tuple(failure.reason for failure in reader.failures)
    tested = TestedImages(tuple(file.as_posix() for file in files), samples[0], skipped)
    return judge(reference, candidate, paired, tested, labels, tolerances)

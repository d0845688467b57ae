"""Turn what a user asks for into the settings of a data set, which need the open model."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gsp_deploy.retrieval.dataset.layout import EmbeddingSettings, Storage
from gsp_deploy.retrieval.embedding import certificates_of
from gsp_deploy.retrieval.identity import identity_of
from gsp_deploy.runtime import EmbeddingSession, SessionInfo, SessionOptions, open_with
from gsp_deploy.sources import Columns


@dataclass(frozen=True)
class Wanted:
    """What a user asks of a data set.

    Attributes:
        storage: element type of the stored embeddings.
        also: `residual`, `weights` or `attributes`, for further columns.
        batch: images per batch.
        shard_size: largest number of images in a part.
        columns: the columns of tables of images.
        reduced_jpeg: decode large JPEG files at a fraction of their size.
    """

    storage: Storage
    also: tuple[str, ...]
    batch: int
    shard_size: int
    columns: Columns
    reduced_jpeg: bool = False


def settings_of(model: Path, options: SessionOptions, wanted: Wanted) -> EmbeddingSettings:
    """Open the model and return the settings of the data set.

    Raises:
        UsageError: the model lacks an output that is asked for, does not record how images are
            prepared, or needs JPEG files whole and `reduced_jpeg` is asked for.
    """
    with open_with(model, options) as session:
        outputs = _outputs(session, wanted.also)
        session.run(blank_images(session.info, 1), outputs)
        return EmbeddingSettings(
            model=identity_of(session, reduced_jpeg=wanted.reduced_jpeg),
            runtime=runtime_words(session.info),
            storage=wanted.storage,
            outputs=outputs,
            batch=wanted.batch,
            threads=options.threads or 1,
            shard_size=wanted.shard_size,
            columns=(wanted.columns.image, wanted.columns.id),
        )


def runtime_words(info: SessionInfo) -> str:
    """Return the runtime and the kind of device, without the device's number."""
    return re.sub(r"(?<=cuda):\d+", "", f"{info.runtime} {info.device}")


def blank_images(info: SessionInfo, count: int) -> np.ndarray:
    """Return black images of the model's size."""
    spec = info.require_preprocessing()
    return np.zeros((count, spec.height, spec.width, 3), np.uint8)


def _outputs(session: EmbeddingSession, also: Sequence[str]) -> tuple[str, ...]:
    further = [name for name in ("weights", "attributes") if name in also]
    certificates = certificates_of(session) if "residual" in also else ()
    return ("embedding", *further, *certificates)

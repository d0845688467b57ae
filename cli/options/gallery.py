"""What an index is filled from: a model and images, or stored embeddings and their model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from gsp_deploy.base.progress import Advance
from gsp_deploy_cli.options.common import ReadingOptions
from gsp_deploy_cli.options.runtime import RuntimeOptions
from gsp_deploy_cli.tables import show

if TYPE_CHECKING:
    from gsp_deploy.images.files import ImageReader
    from gsp_deploy.retrieval.identity import ModelIdentity
    from gsp_deploy.runtime import EmbeddingSession


class Embedding(NamedTuple):
    """An open model, who it is, the images to embed, and what to call with each number done."""

    session: EmbeddingSession
    identity: ModelIdentity
    reader: ImageReader
    advance: Advance


@contextmanager
def embedding(
    model: Path, images: list[str], runtime: RuntimeOptions, reading: ReadingOptions
) -> Iterator[Embedding]:
    """Open a model for many images, under a bar that counts them.

    Raises:
        UsageError: the model does not record its pre-processing, or needs JPEG files whole; no
            image is decoded before.
    """
    from gsp_deploy.images.files import ImageReader, find_images
    from gsp_deploy.retrieval.identity import identity_of

    files = [file.absolute() for file in find_images(images, show.note)]
    with runtime.open(model, many=True) as session:
        identity = identity_of(session, reduced_jpeg=reading.reduced_jpeg)
        reader = ImageReader(
            files,
            session.info.require_preprocessing(),
            reading.batch,
            reading.strict,
            reduced=reading.reduced_jpeg,
        )
        with show.counting("embedding", len(files)) as advance:
            yield Embedding(session, identity, reader, advance)


def identity_named(
    model: Path | None, runtime: RuntimeOptions, reading: ReadingOptions
) -> ModelIdentity | None:
    """Return who the model is that `--model` names; None without one."""
    from gsp_deploy.retrieval.identity import identity_of

    if model is None:
        return None
    with runtime.open(model) as session:
        return identity_of(session, reduced_jpeg=reading.reduced_jpeg)

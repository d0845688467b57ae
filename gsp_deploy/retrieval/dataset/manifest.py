"""The manifest of a data set of embeddings: it lists the parts, and it is written last."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gsp_deploy.base.files import write_document
from gsp_deploy.base.inputs import read_regular_text
from gsp_deploy.base.schema import from_fields
from gsp_deploy.errors import ConfigError, DataError, UsageError, reason_of
from gsp_deploy.retrieval.dataset.layout import (
    DOCUMENT,
    FORMAT_VERSION,
    EmbeddingSettings,
    Part,
)
from gsp_deploy.retrieval.stored import MANIFEST


@dataclass(frozen=True)
class DatasetManifest:
    """What a data set contains.

    Attributes:
        settings: how the embeddings were computed.
        sources: the sources, as the command named them.
        images: number of embeddings in all parts.
        failures: number of images that could not be read.
        parts: the parts, in the order of the sources.
    """

    settings: EmbeddingSettings
    sources: tuple[str, ...]
    images: int
    failures: int
    parts: tuple[Part, ...]

    def __post_init__(self) -> None:
        if self.images != sum(part.images for part in self.parts):
            raise ConfigError("the number of images is not the sum over the parts")


def write_manifest(manifest: DatasetManifest, folder: Path) -> None:
    """Write the manifest into its data set, whole or not at all."""
    write_document(folder / MANIFEST, DOCUMENT, dataclasses.asdict(manifest), FORMAT_VERSION)


def read_manifest(folder: Path) -> DatasetManifest:
    """Return the manifest of a data set.

    Raises:
        UsageError: the folder has no manifest.
        DataError: the manifest is damaged, or is of another version.
    """
    path = folder / MANIFEST
    try:
        data: dict[str, Any] = json.loads(read_regular_text(path))
        if (data.pop("document"), data.pop("version")) != (DOCUMENT, FORMAT_VERSION):
            raise DataError(f"{path}: not a manifest of embeddings in format {FORMAT_VERSION}")
        return from_fields(DatasetManifest, data)
    except FileNotFoundError as error:
        raise UsageError(
            f"{folder} has no {MANIFEST}, so it is not a finished data set of embeddings; run the "
            "same embed command again to finish it"
        ) from error
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OSError) as error:
        raise DataError(f"{path}: the manifest is damaged ({reason_of(error)})") from error

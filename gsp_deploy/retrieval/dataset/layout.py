"""The layout of a data set of embeddings: its settings, its parts, and the key of each part.

A data set is a folder. `part-00017.parquet` contains the embeddings of slice 17 of the sources,
and `failures-00017.parquet` the images of that slice that could not be read. A long slice, such as
a tar file of a million images, continues in `part-00017-00001.parquet`. `_manifest.json` is
written last; readers open the files that it lists and no others.

Each part's footer has its key: a hash of everything that determines the part's bytes.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from dataclasses import dataclass, field
from typing import Any, Literal

from gsp_deploy.images.walking import PassedOver
from gsp_deploy.retrieval.identity import ModelIdentity

DOCUMENT = "embeddings"
FORMAT_VERSION = 1
# Key of the footer's metadata; it also marks the file as one that gsp-deploy made.
FOOTER = "gsp_deploy"
Storage = Literal["float32", "float16", "int8"]

_PART = re.compile(r"part-(\d{5,})(?:-(\d{5,}))?\.parquet")


@dataclass(frozen=True)
class EmbeddingSettings:
    """Everything besides the source that determines the bytes of a part.

    Attributes:
        model: the model that computed the embeddings.
        runtime: name and version of the runtime, and its device.
        storage: element type of the embeddings; `int8` has a scale for each image.
        outputs: the model's outputs that are stored, `embedding` first.
        batch: images per batch.
        threads: threads of one inference on the CPU.
        shard_size: largest number of images in a part.
        columns: names of the columns in tables of images; None means found by their type.
    """

    model: ModelIdentity
    runtime: str
    storage: Storage
    outputs: tuple[str, ...]
    batch: int
    threads: int
    shard_size: int
    columns: tuple[str | None, str | None] = (None, None)

    def entries(self) -> dict[str, Any]:
        """Return the settings as plain data, for a footer or a manifest."""
        return dataclasses.asdict(self)

    def differences(self, other: EmbeddingSettings) -> str:
        """Name the settings that differ, with both values; a renamed model is the same model.

        Return an empty text if none differs.
        """
        return "; ".join(
            f"{name} {_shown(mine)} before, {_shown(yours)} now"
            for name, mine in self._compared().items()
            if (yours := other._compared()[name]) != mine
        )

    def _compared(self) -> dict[str, Any]:
        found = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        found["model"] = self.model.sha256
        found["precision"] = self.model.precision
        found["reduced_jpeg"] = self.model.reduced_jpeg
        return found


@dataclass(frozen=True)
class Part:
    """One part as its footer and the manifest describe it.

    Attributes:
        slice: number of its slice of the sources.
        piece: number of the part within its slice.
        key: hash of the settings and of the source of its images.
        images: number of embeddings in it.
        failures: number of images that could not be read, in the file beside it.
        last: whether the slice ends here.
        passed_over: members of the slice's tar file that are no images; only the last part has
            these counts, of the whole file.
    """

    slice: int
    piece: int
    key: str
    images: int
    failures: int
    last: bool
    passed_over: PassedOver = field(default_factory=PassedOver)

    @property
    def name(self) -> str:
        """The part's file name."""
        return part_name(self.slice, self.piece)

    @property
    def failures_name(self) -> str:
        """The name of the file with the images that could not be read."""
        return failures_name(self.slice, self.piece)


def part_name(number: int, piece: int = 0) -> str:
    """Return the file name of a part.

    >>> part_name(17), part_name(17, 2)
    ('part-00017.parquet', 'part-00017-00002.parquet')
    """
    return f"part-{_numbers(number, piece)}.parquet"


def failures_name(number: int, piece: int = 0) -> str:
    """Return the name of the file beside a part with the images that could not be read."""
    return f"failures-{_numbers(number, piece)}.parquet"


def numbers_of(name: str) -> tuple[int, int] | None:
    """Return the slice and the piece of a part's file name; None for other names.

    >>> numbers_of("part-00017.parquet"), numbers_of("notes.txt")
    ((17, 0), None)
    """
    match = _PART.fullmatch(name)
    if match is None or part_name(*(pair := (int(match[1]), int(match[2] or 0)))) != name:
        return None
    return pair


def key_of(settings: EmbeddingSettings, source_key: str, piece: int) -> str:
    """Return the key of a part, a SHA-256 in hexadecimal.

    Args:
        settings: what determines the part besides its images.
        source_key: the slice's key, a hash of its files' names, sizes and times.
        piece: number of the part within its slice.
    """
    compared = settings._compared()
    if not compared["reduced_jpeg"]:  # so that parts from before this setting stay valid
        del compared["reduced_jpeg"]
    entries = [compared, source_key, piece]
    return hashlib.sha256(json.dumps(entries, sort_keys=True).encode()).hexdigest()


def _numbers(number: int, piece: int) -> str:
    return f"{number:05d}-{piece:05d}" if piece else f"{number:05d}"


def _shown(value: object) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, (tuple, list)) else str(value)
    return text[:12] if re.fullmatch(r"[0-9a-f]{64}", text) else text

"""Decode every image of a data set, to find broken ones before a long run."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from gsp_deploy.base.cores import available_cores
from gsp_deploy.data.images import Dataset, LabelledImages
from gsp_deploy.errors import DataError

_CHUNK = 256


@dataclass(frozen=True)
class Unreadable:
    """An image that cannot be read: its part, its id and the reason."""

    part: str
    image: str
    reason: str


def unreadable_images(
    dataset: Dataset, on_image: Callable[[], None] = lambda: None
) -> tuple[Unreadable, ...]:
    """Decode every image of the training and test parts; return those that cannot be decoded.

    Args:
        dataset: a data set opened with `strict=True`, so that every listed file exists.
        on_image: called after each image.
    """
    found = []
    for name, part in (("train", dataset.train), ("test", dataset.test)):
        with ThreadPoolExecutor(available_cores()) as pool:
            for start in range(0, len(part), _CHUNK):
                indices = range(start, min(start + _CHUNK, len(part)))
                reasons = pool.map(lambda index, part=part: _reason(part, index), indices)
                for index, reason in zip(indices, reasons, strict=True):
                    on_image()
                    if reason is not None:
                        found.append(Unreadable(name, part.ids[index], reason))
    return tuple(found)


def _reason(part: LabelledImages, index: int) -> str | None:
    try:
        part.image(index)
    except DataError as error:
        return str(error)
    return None

"""Runs of a study that keep a record each, so that a stopped study goes on where it was."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from PIL import Image

from gsp_deploy.base.files import write_text
from gsp_deploy.data import Dataset, LabelledImages, open_dataset
from gsp_deploy.data.images import ImageSource
from gsp_deploy.training import Recipe, TrainingResult, train


class Recorded(ABC):
    """A run with a folder, and its record once it is over."""

    @property
    @abstractmethod
    def path(self) -> Path:
        """The run's folder."""

    @property
    def record(self) -> Path:
        """The run's settings and measures once it is over."""
        return self.path / "record.json"


Task = TypeVar("Task", bound=Recorded)


def arguments(about: str | None, folder: str, results: Path, jobs: int) -> argparse.Namespace:
    """Return what a study is asked for; the last three are its defaults."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--folder", type=Path, default=Path(folder), help="of the runs")
    parser.add_argument("--results", type=Path, default=results)
    parser.add_argument("--jobs", type=int, default=jobs, help="runs at a time, one thread each")
    parser.add_argument("--quick", action="store_true", help="a few steps of one seed")
    return parser.parse_args()


def follow(
    tasks: Sequence[Task],
    run: Callable[[Task], dict[str, Any]],
    jobs: int,
    finished: Callable[[], object] = lambda: None,
) -> None:
    """Run the tasks without a record in `jobs` processes, report each, and call `finished`."""
    missing = [task for task in tasks if not task.record.exists()]
    began = time.monotonic()
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        waiting = {pool.submit(run, task): task for task in missing}
        for done, future in enumerate(as_completed(waiting), start=1):
            found = future.result()
            judged = found if "recall_at_1" in found else found["validation"]
            print(
                f"[{done}/{len(missing)}, {time.monotonic() - began:.0f} s] "
                f"{waiting[future].path.name}: R@1 {judged['recall_at_1']:.3f}, "
                f"MAP@R {judged['map_at_r']:.3f}",
                file=sys.stderr,
                flush=True,
            )
            finished()


def trained(recipe: Recipe, folder: Path, dataset: Dataset) -> TrainingResult:
    """Train to the end, or from where a stopped run was.

    Raises:
        InterruptedError: a signal stopped the run, so nothing may be judged.
    """
    result = train(recipe, folder, dataset=dataset, resume=True)
    if result.interrupted:
        raise InterruptedError(
            f"{folder} was stopped after step {result.steps}; the same command continues it"
        )
    return result


def write_document(path: Path, document: dict[str, Any]) -> None:
    """Write a record or a file of results."""
    write_text(path, json.dumps(document, indent=1) + "\n")


def records_of(tasks: Sequence[Recorded]) -> list[dict[str, Any]]:
    """Return the records that exist, in the order of the tasks."""
    return [json.loads(task.record.read_text()) for task in tasks if task.record.exists()]


def refuse_another_start(results: Path, first: Recorded) -> None:
    """Stop a study whose results come from another first stage than the one in its folder.

    Training repeats itself to the last bit only on the same kind of processor.
    """
    if not results.exists():
        return
    here = json.loads(first.record.read_text())
    there = next(run for run in json.loads(results.read_text())["runs"] if run["head"] == "alone")
    if here["map_at_r"] != there["map_at_r"]:
        sys.exit(
            f"{results} has runs from another first stage: its R@1 is {there['recall_at_1']:.4f}, "
            f"here it is {here['recall_at_1']:.4f}; pass another --results to begin a new study"
        )


class Kept:
    """A generated source whose images are drawn once and kept in memory."""

    def __init__(self, source: Any, count: int) -> None:
        self._source = source
        self._pixels = np.stack([np.asarray(source.image(place)) for place in range(count)])

    @property
    def parameters(self) -> Mapping[str, str | int | float]:
        """Those of the source: the pixels are the same."""
        parameters: Mapping[str, str | int | float] = self._source.parameters
        return parameters

    def image(self, position: int) -> Image.Image:
        """Return one image."""
        return Image.fromarray(self._pixels[position])

    def object_mask(self, position: int) -> np.ndarray:
        """Return where the object is."""
        mask: np.ndarray = self._source.object_mask(position)
        return mask


@cache
def kept_dataset(spec: str) -> Dataset:
    """Return a built-in data set with its pixels in memory: every run of a process uses it."""
    dataset = open_dataset(spec)
    return dataclasses.replace(dataset, train=_kept(dataset.train), test=_kept(dataset.test))


def _kept(part: LabelledImages) -> LabelledImages:
    source: ImageSource = Kept(part.source, len(part))
    return dataclasses.replace(part, source=source)

"""GSP against average pooling on built-in data: the runs of the protocol in retrieval.md.

A small network first learns characters alone, once; from there it goes on with every head and
seed, among distractors and without, for the same number of steps on the same batches. Judged is
each run's last step, on classes that no run and no choice of a setting has seen.

Each run's record lies in its folder: a benchmark that was stopped goes on where it was.
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kept_runs import (
    Recorded,
    arguments,
    follow,
    kept_dataset,
    records_of,
    trained,
    write_document,
)
from retrieval_weights import object_mass

from gsp_deploy.base.environment import Environment
from gsp_deploy.data import Dataset
from gsp_deploy.retrieval.evaluation import evaluate
from gsp_deploy.runtime import open_session
from gsp_deploy.training import load_recipe

MODELS = Path(__file__).parents[1] / "models"
ALONE, RECIPE = "glyphs-small-alone.toml", "glyphs-small.toml"
DATA = {
    "cluttered": "glyphs:clutter=1,size=48,scale=0.5",
    "uncluttered": "glyphs:clutter=0,size=48,scale=0.5",
}
HEADS: dict[str, tuple[str, ...]] = {
    "gap": ("head.kind='gap'",),
    "gsp": ("zsr.enabled=false",),
    "gsp+zsr": ("zsr.enabled=true",),
    "gem": ("head.kind='gem'",),
    "gap+gmp": ("head.kind='gap+gmp'",),
}
# Without clutter the question is only whether anything is lost.
COMPARED = {
    "cluttered": ("gap", "gsp", "gsp+zsr", "gem", "gap+gmp"),
    "uncluttered": ("gap", "gsp+zsr"),
}
SEEDS = 5
FIRST_STAGE = "alone"
# A small data set and few steps: does the script run?
QUICK = (
    "run.steps=4",
    "sampler.batch_size=16",
    "prototypes.memory=32",
)
QUICK_DATA = ",images_per_class=6,train_classes=10,test_classes=4"


@dataclass(frozen=True)
class Task(Recorded):
    """One run; `head` is `FIRST_STAGE` for what all the others start from."""

    folder: Path
    data: str
    head: str
    seed: int
    quick: bool

    @property
    def path(self) -> Path:
        """The run's folder."""
        return self.folder / f"{self.data}-{self.head}-{self.seed}"


def first_stage(folder: Path, quick: bool) -> Task:
    """Return the run that all the others start from."""
    return Task(folder, "uncluttered", FIRST_STAGE, 0, quick)


def pretrained(first: Task) -> str:
    """Return the setting that starts a run from the first stage."""
    return f"model.pretrained='{first.path / 'last.safetensors'}'"


def main() -> None:
    """Run what is missing, then write all records and print where they are."""
    asked = arguments(__doc__, "runs/retrieval", Path(__file__).parent / "retrieval.json", jobs=2)
    seeds = range(1 if asked.quick else SEEDS)
    first = first_stage(asked.folder, asked.quick)
    # Seed by seed, so that what is there at any moment is a whole comparison.
    tasks = [
        Task(asked.folder, data, head, seed, asked.quick)
        for seed in seeds
        for data, heads in COMPARED.items()
        for head in heads
    ]
    for part in ([first], tasks):
        follow(part, run, asked.jobs)
    document = {
        "benchmark": "retrieval",
        "version": 1,
        "recipes": [ALONE, RECIPE],
        "data": DATA,
        "heads": HEADS,
        "environment": dataclasses.asdict(Environment.here()),
        "runs": records_of([first, *tasks]),
    }
    write_document(asked.results, document)
    print(asked.results)


def run(task: Task) -> dict[str, Any]:
    """Train, judge on the test classes, keep the record."""
    began = time.monotonic()
    dataset = kept_dataset(DATA[task.data] + (QUICK_DATA if task.quick else ""))
    recipe = load_recipe(MODELS / (ALONE if task.head == FIRST_STAGE else RECIPE), _settings(task))
    result = trained(recipe, task.path, dataset)
    record: dict[str, Any] = {
        "data": task.data,
        "head": task.head,
        "seed": task.seed,
        "steps": result.steps,
        "validation": result.last_metrics,
        **judged(task.path / "last.safetensors", dataset, with_mass=task.head.startswith("gsp")),
    }
    record["seconds"] = round(time.monotonic() - began, 1)
    write_document(task.record, record)
    return record


def judged(checkpoint: Path, dataset: Dataset, *, with_mass: bool) -> dict[str, Any]:
    """Return the measures on the test classes and, for GSP, the weights' mass on the object."""
    with open_session(checkpoint, threads=1) as session:
        found = evaluate([session], dataset)
        (metrics,) = found.models.values()
        record: dict[str, Any] = {"test_classes": found.classes, **metrics.to_dict()}
        if with_mass:
            record |= object_mass(session, dataset.test)
    return record


def _settings(task: Task) -> Iterator[str]:
    yield f"run.seed={task.seed}"
    yield f"data.spec='{DATA[task.data]}'"
    if task.head != FIRST_STAGE:
        yield pretrained(first_stage(task.folder, task.quick))
        yield from HEADS[task.head]
    if task.quick:
        yield from QUICK


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # inherited by the processes that train
    main()

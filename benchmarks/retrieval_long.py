"""GSP against average, generalised-mean and maximum pooling over 1500 steps: retrieval-long.md.

Each head first gets the same short trials of learning rates on validation classes; then every seed
runs with every head. A study that was stopped goes on where it was, and the file of results holds
at any moment every run that is over.
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import retrieval
from kept_runs import (
    Recorded,
    arguments,
    follow,
    kept_dataset,
    records_of,
    refuse_another_start,
    trained,
    write_document,
)

from gsp_deploy.base.environment import Environment
from gsp_deploy.training import load_recipe

RESULTS = Path(__file__).parent / "retrieval-long.json"
DATA = "cluttered"
HEADS = ("gap", "gem", "gap+gmp", "gsp", "gsp+zsr")
RATES = (0.0015, 0.003, 0.006)
TRIAL_STEPS, TRIAL_SEED = 250, 5
STEPS, SEEDS = 1500, 5
# 32 classes in a batch of 64 images.
COMMON = ("sampler.images_per_class=2", "run.amp='bf16'")


@dataclass(frozen=True)
class Run(Recorded):
    """One run with a learning rate; a trial is never judged on the test classes."""

    folder: Path
    head: str
    seed: int
    rate: float
    is_trial: bool
    quick: bool

    @property
    def path(self) -> Path:
        """The run's folder."""
        name = f"trial-{self.head}-{self.rate:g}" if self.is_trial else f"{self.head}-{self.seed}"
        return self.folder / name

    @property
    def steps(self) -> int:
        """The length of the run."""
        return 4 if self.quick else TRIAL_STEPS if self.is_trial else STEPS


def main() -> None:
    """Run what is missing; write the results after each run and print where they are."""
    asked = arguments(__doc__, "runs/retrieval-long", RESULTS, jobs=1)
    first = retrieval.first_stage(asked.folder, asked.quick)
    trials = [Run(asked.folder, h, TRIAL_SEED, r, True, asked.quick) for h in HEADS for r in RATES]
    follow([first], retrieval.run, asked.jobs)
    refuse_another_start(asked.results, first)
    follow(trials, run, asked.jobs, partial(write_results, asked.results, first, trials, []))
    rates = best_rates(records_of(trials))
    runs = [
        Run(asked.folder, head, seed, rates[head], False, asked.quick)
        for seed in range(1 if asked.quick else SEEDS)
        for head in HEADS
    ]
    finished = partial(write_results, asked.results, first, trials, runs)
    follow(runs, run, asked.jobs, finished)
    finished()
    print(asked.results)


def run(task: Run) -> dict[str, Any]:
    """Train, judge a long run on the test classes, keep the record."""
    began = time.monotonic()
    data = retrieval.DATA[DATA] + (retrieval.QUICK_DATA if task.quick else "")
    dataset = kept_dataset(data)
    recipe = load_recipe(retrieval.MODELS / retrieval.RECIPE, settings(task))
    result = trained(recipe, task.path, dataset)
    record: dict[str, Any] = {
        "data": DATA,
        "head": task.head,
        "seed": task.seed,
        "rate": task.rate,
        "trial": task.is_trial,
        "steps": result.steps,
        "validation": result.last_metrics,
    }
    if not task.is_trial:
        checkpoint = task.path / "last.safetensors"
        record |= retrieval.judged(checkpoint, dataset, with_mass=task.head.startswith("gsp"))
    record["seconds"] = round(time.monotonic() - began, 1)
    write_document(task.record, record)
    return record


def settings(task: Run) -> list[str]:
    """Return what a run changes in the recipe."""
    first = retrieval.first_stage(task.folder, task.quick)
    return [
        retrieval.pretrained(first),
        *retrieval.HEADS[task.head],
        *COMMON,
        *(retrieval.QUICK if task.quick else ()),
        f"run.seed={task.seed}",
        f"run.steps={task.steps}",
        f"run.evaluate_every={task.steps}",
        f"optimiser.lr={task.rate}",
    ]


def best_rates(trials: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Return each head's learning rate with the highest R@1 on the validation classes."""
    return {
        head: max(
            (trial for trial in trials if trial["head"] == head),
            key=lambda trial: trial["validation"]["recall_at_1"],
        )["rate"]
        for head in dict.fromkeys(trial["head"] for trial in trials)
    }


def write_results(
    path: Path, first: retrieval.Task, trials: Sequence[Run], runs: Sequence[Run]
) -> None:
    """Write every record that exists."""
    document = {
        "benchmark": "retrieval-long",
        "version": 1,
        "recipe": retrieval.RECIPE,
        "data": {DATA: retrieval.DATA[DATA]},
        "settings": COMMON,
        "heads": {head: retrieval.HEADS[head] for head in HEADS},
        "environment": dataclasses.asdict(Environment.here()),
        "trials": records_of(trials),
        "runs": records_of([first, *runs]),
    }
    write_document(path, document)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # inherited by the processes that train
    main()

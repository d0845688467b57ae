"""Where zero-shot regularisation helps: classes in a batch and ridge, against two controls.

Every run trains from the first stage of the retrieval benchmark and is judged on validation
classes. The controls keep the size of ZSR's gradient on the attributes and drop what it knows:
`shuffled` gives the loss other images' labels, and `noise` replaces its gradient by a random vector
of the same length. ZSR helps where it is above `none` and above both.

Each run's record lies in its folder: a study that was stopped goes on where it was.
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
import torch
from kept_runs import Recorded, arguments, follow, kept_dataset, records_of, write_document
from torch import Tensor, nn

from gsp_deploy.base.environment import Environment
from gsp_deploy.data import validation_split
from gsp_deploy.layers.losses import ZeroShotLoss
from gsp_deploy.training import Recipe, load_recipe
from gsp_deploy.training.distributed import World
from gsp_deploy.training.run import TrainingRun

RESULTS = Path(__file__).parent / "zsr.json"
ARMS = ("none", "zsr", "shuffled", "noise")
# Images of a batch by its classes: pairs, but for the first, which is the protocol of retrieval.md.
BATCHES = {16: 64, 32: 64, 64: 128}
RIDGES = (0.05, 0.5)
STEPS, SEEDS = 300, 3
ATTRIBUTES_OFTEN = 25  # steps from one measure of the loss to the next


@dataclass(frozen=True)
class Run(Recorded):
    """One run of an arm; without ZSR the ridge is 0."""

    folder: Path
    arm: str
    classes: int
    ridge: float
    seed: int
    quick: bool

    @property
    def path(self) -> Path:
        """The run's folder."""
        return self.folder / f"zsr-{self.classes}-{self.arm}-{self.ridge:g}-{self.seed}"


class ShuffledLabels(nn.Module):
    """ZSR with the labels of a batch in random order."""

    def __init__(self, loss: ZeroShotLoss) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, attributes: Tensor, labels: Tensor) -> Tensor:
        """Return the loss of `attributes (B, M)` with permuted `labels (B,)`."""
        value: Tensor = self.loss(attributes, labels[torch.randperm(len(labels))])
        return value


class NoiseOfTheSameSize(nn.Module):
    """ZSR whose gradient on the attributes is a random vector of the same length."""

    def __init__(self, loss: ZeroShotLoss) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, attributes: Tensor, labels: Tensor) -> Tensor:
        """Return the loss of `attributes (B, M)` and `labels (B,)`."""
        seen = attributes.clone()
        seen.register_hook(as_noise)
        value: Tensor = self.loss(seen, labels)
        return value


def as_noise(gradient: Tensor) -> Tensor:
    """Return a random tensor with the norm of a gradient."""
    noise = torch.randn_like(gradient)
    return noise * (gradient.norm() / noise.norm())


CONTROLS = {"shuffled": ShuffledLabels, "noise": NoiseOfTheSameSize}


def main() -> None:
    """Run what is missing; write the results after each run and print the table."""
    asked = arguments(__doc__, "runs/retrieval-long", RESULTS, jobs=1)
    first = retrieval.first_stage(asked.folder, asked.quick)
    runs = planned(asked.folder, asked.quick)
    finished = partial(write_results, asked.results, runs)
    follow([first], retrieval.run, asked.jobs)
    follow(runs, run, asked.jobs, finished)
    finished()
    print(table(records_of(runs)))


def planned(folder: Path, quick: bool) -> list[Run]:
    """Return the runs seed by seed, so that a stopped study is a whole comparison of fewer."""
    batches, ridges = (tuple(BATCHES)[:1], RIDGES[:1]) if quick else (tuple(BATCHES), RIDGES)
    return [
        Run(folder, arm, classes, ridge, seed, quick)
        for seed in range(1 if quick else SEEDS)
        for classes in batches
        for arm in ARMS
        for ridge in (ridges if arm != "none" else (0.0,))
    ]


def run(task: Run) -> dict[str, Any]:
    """Train, judge on the validation classes, keep the record."""
    began = time.monotonic()
    torch.set_num_threads(1)
    recipe = load_recipe(retrieval.MODELS / retrieval.RECIPE, settings(task))
    training = assembled(task, recipe)
    losses = [
        training.step(number, batch, 0).zsr_loss for number, batch in enumerate(training.batches(0))
    ]
    training.settle_statistics()
    found = training.evaluate(training.total_steps)
    record: dict[str, Any] = {
        **{name: getattr(task, name) for name in ("arm", "classes", "ridge", "seed")},
        "steps": training.total_steps,
        "zsr_loss": losses[::ATTRIBUTES_OFTEN],
        "validation": found,
        "seconds": round(time.monotonic() - began, 1),
    }
    task.path.mkdir(parents=True, exist_ok=True)
    write_document(task.record, record)
    return record


def assembled(task: Run, recipe: Recipe) -> TrainingRun:
    """Return the run with its prototypes, and with its arm's loss in the place of ZSR."""
    spec = retrieval.DATA["cluttered"] + (retrieval.QUICK_DATA if task.quick else "")
    split = validation_split(kept_dataset(spec).train, recipe.data.validation_fraction, 0)
    training = TrainingRun(recipe, *split, torch.device("cpu"), World())
    training.start_prototypes()
    objective = training.objective
    if task.arm in CONTROLS:
        assert objective.zsr is not None
        objective.zsr = CONTROLS[task.arm](objective.zsr)  # type: ignore[assignment]
    return training


def settings(task: Run) -> list[str]:
    """Return what a run changes in the recipe."""
    first = retrieval.first_stage(task.folder, task.quick)
    batch = BATCHES[task.classes]
    return [
        retrieval.pretrained(first),
        f"run.steps={STEPS}",
        f"run.seed={task.seed}",
        "run.amp='bf16'",
        f"sampler.batch_size={batch}",
        f"sampler.images_per_class={batch // task.classes}",
        *(retrieval.QUICK if task.quick else ()),
        f"zsr.enabled={str(task.arm != 'none').lower()}",
        *([f"zsr.ridge={task.ridge}"] if task.arm != "none" else []),
    ]


def write_results(path: Path, runs: Sequence[Run]) -> None:
    """Write every record that exists."""
    document = {
        "benchmark": "zsr",
        "version": 1,
        "recipe": retrieval.RECIPE,
        "data": retrieval.DATA["cluttered"],
        "environment": dataclasses.asdict(Environment.here()),
        "runs": records_of(runs),
    }
    write_document(path, document)


def table(records: Sequence[dict[str, Any]]) -> str:
    """Return validation R@1 of each arm, in the mean over seeds, and the number of seeds."""
    lines = [
        "| classes | ridge | seeds | " + " | ".join(ARMS) + " |",
        "|---" * (3 + len(ARMS)) + "|",
    ]
    for classes in dict.fromkeys(record["classes"] for record in records):
        for ridge in sorted({r["ridge"] for r in records if r["arm"] != "none"}):
            of_row = [r for r in records if r["classes"] == classes and r["ridge"] in (0, ridge)]
            found = {arm: [r for r in of_row if r["arm"] == arm] for arm in ARMS}
            seeds = set.intersection(*({r["seed"] for r in runs} for runs in found.values()))
            if seeds:
                means = [_mean_recall(found[arm], seeds) for arm in ARMS]
                cells = [f"{classes}", f"{ridge:g}", f"{len(seeds)}", *map("{:.3f}".format, means)]
                lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _mean_recall(records: Sequence[dict[str, Any]], seeds: set[int]) -> float:
    values = [r["validation"]["recall_at_1"] for r in records if r["seed"] in seeds]
    return sum(values) / len(values)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # inherited by the processes that train
    main()

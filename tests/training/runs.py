"""Run training on the tiny images, record its progress, and read its folder."""

from __future__ import annotations

import csv
import signal
from pathlib import Path

from gsp_deploy import load_checkpoint
from gsp_deploy.training import train
from gsp_deploy.training.records import Silence

from .tiny import patches

FILES = ("best.safetensors", "last.safetensors", "log.csv", "recipe.toml", "state.pt")


class Heard(Silence):
    """Keeps what it hears, and can interrupt the run after a step."""

    def __init__(self, interrupt_after: int | None = None) -> None:
        self.plan, self.records, self.evaluations = None, [], []
        self.interrupt_after = interrupt_after

    def started(self, plan):
        self.plan = plan

    def stepped(self, record):
        self.records.append(record)
        if record.step == self.interrupt_after:
            signal.raise_signal(signal.SIGINT)

    def evaluated(self, step, metrics, is_best):
        self.evaluations.append((step, metrics, is_best))


def trained(recipe, folder, **options):
    options.setdefault("dataset", patches())
    return train(recipe, folder, **options)


def rows(folder):
    with (folder / "log.csv").open() as stream:
        return list(csv.DictReader(stream))


def contents(folder: Path):
    return {name: (folder / name).read_bytes() for name in FILES}


def weights_of(path):
    return load_checkpoint(path).state_dict()

"""A study on disk: what was measured of each candidate, saved after each measurement.

`study.json` alone decides what is left to do; it is replaced as a whole. The exported files beside
it are made again where they are missing or are not the ones that were measured.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from gsp_deploy.base.files import write_text
from gsp_deploy.base.inputs import read_regular_text
from gsp_deploy.base.schema import from_fields
from gsp_deploy.benchmark.reliability import NOISY
from gsp_deploy.errors import ConfigError, UsageError, brief
from gsp_deploy.tuning.space import Candidate

DOCUMENT = "tune-study"
VERSION = 1
STUDY_FILE = "study.json"
# How a user names a condition.
OPTIONS = {
    "model": "the checkpoint",
    "data": "--data and --images",
    "calibration": "--calibrate",
    "device": "--device",
    "provider": "--provider",
    "threads": "--threads",
    "rounds": "--repeats",
}


@dataclass(frozen=True)
class Quality:
    """What one candidate's embeddings are worth.

    Attributes:
        sha256: of the exported file that was measured.
        solver_steps: as exported; None without a solver.
        map_at_r, recall_at_1: in points of 100.
        emulated: the device only imitates this precision. The figures are those of hardware that
            has it, but a latency would not be.
        notes: what a reader should know, such as what int8 left in float32.
    """

    sha256: str
    solver_steps: int | None
    map_at_r: float
    recall_at_1: float
    emulated: bool
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Speed:
    """One candidate against the reference, run in turns, at one batch size.

    Attributes:
        ratio: median over rounds of its time by the reference's time of that round, which holds
            on a noisy machine where milliseconds do not.
        ratio_low, ratio_high: quartiles of the same.
        reference_p50: median of the reference's time in these rounds, ms.
    """

    ratio: float
    ratio_low: float
    ratio_high: float
    reference_p50: float

    @property
    def is_noisy(self) -> bool:
        """Whether the quartiles are so far apart that the ratio says little."""
        return self.ratio_high > NOISY * self.ratio_low


@dataclass
class Study:
    """Everything that was measured so far.

    Attributes:
        folder: where it lies.
        conditions: what all its figures have in common; another study has others.
        given: what the user wrote for a condition, where its value is a hash or a default.
        qualities: by candidate's name.
        speeds: by candidate's name and batch size.
        failures: why a candidate could not be made or run, by its name.
    """

    folder: Path
    conditions: Mapping[str, str]
    given: Mapping[str, str] = field(default_factory=dict)
    qualities: dict[str, Quality] = field(default_factory=dict)
    speeds: dict[str, dict[int, Speed]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)

    @property
    def path(self) -> Path:
        """The file that holds it."""
        return self.folder / STUDY_FILE

    def model_path(self, candidate: Candidate) -> Path:
        """Return where a candidate is exported to."""
        return self.folder / "models" / f"{candidate.name}.onnx"

    def missing_batches(self, candidate: Candidate, batches: tuple[int, ...]) -> tuple[int, ...]:
        """Return the batch sizes at which a candidate has not been timed."""
        timed = self.speeds.get(candidate.name, {})
        return tuple(batch for batch in batches if batch not in timed)

    def save(self) -> None:
        """Write the study, whole or not at all."""
        data = {
            "document": DOCUMENT,
            "version": VERSION,
            "conditions": dict(self.conditions),
            "given": dict(self.given),
            "qualities": {name: asdict(found) for name, found in self.qualities.items()},
            "speeds": {
                name: {str(batch): asdict(speed) for batch, speed in speeds.items()}
                for name, speeds in self.speeds.items()
            },
            "failures": self.failures,
        }
        write_text(self.path, json.dumps(data, indent=1) + "\n")


def open_study(
    folder: Path,
    conditions: Mapping[str, str],
    given: Mapping[str, str] | None = None,
    *,
    start_over: bool,
) -> Study:
    """Return the study in a folder, or a new one.

    Raises:
        UsageError: the folder holds something else, or a study under other conditions (the first
            that differs is named), and it is not to be started over.
    """
    study = Study(folder, dict(conditions), dict(given or {}))
    if start_over and study.path.exists():
        shutil.rmtree(folder / "models", ignore_errors=True)
        study.save()  # in place of the old one: a folder without any would be taken for another's
        return study
    if not study.path.exists():
        if folder.exists() and (not folder.is_dir() or any(map(_is_foreign, folder.iterdir()))):
            raise UsageError(f"{folder} exists and holds no study; choose another folder")
        study.save()
        return study
    found = _read(study)
    for name, value in conditions.items():
        if found.conditions.get(name) != value:
            raise UsageError(
                f"{folder} holds a study under other conditions: {_change(name, found, study)}; "
                "choose another --folder, or --force to start over"
            )
    return found


def _change(name: str, before: Study, now: Study) -> str:
    """Say how a condition differs, in the user's words for it."""
    was, is_now = (
        study.given.get(name) or study.conditions.get(name, "not told") for study in (before, now)
    )
    named = OPTIONS.get(name, f"the {name}")
    if was == is_now:
        return f"{named}: the files of {is_now} have changed"
    return f"{named}: it was {was}, and now is {is_now}"


def _is_foreign(path: Path) -> bool:
    """Whether something in a folder is not what a killed write of a study left there."""
    return not path.name.startswith(f".{STUDY_FILE}.")


def _read(study: Study) -> Study:
    try:
        data: Any = json.loads(read_regular_text(study.path))
        kind, version = data.pop("document"), data.pop("version")
        if (kind, version) != (DOCUMENT, VERSION):
            raise ConfigError(f"it is {brief(kind)} of version {brief(version)}")
        return from_fields(Study, {**data, "folder": study.folder})
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UsageError(
            f"{study.path}: not a study that can be continued ({error}); --force starts over"
        ) from error

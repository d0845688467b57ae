"""A study on disk: the measurements of all candidates, saved after each measurement.

Only `study.json` decides what is left to do; every save replaces it as a whole. If an exported file
next to it is missing, or is not the one that was measured, it is exported again.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from gsp_deploy.base.file_names import require_utf8
from gsp_deploy.base.files import write_text
from gsp_deploy.base.inputs import read_regular_text
from gsp_deploy.base.schema import from_fields
from gsp_deploy.benchmark.reliability import NOISY
from gsp_deploy.errors import ConfigError, UsageError, brief
from gsp_deploy.tuning.space import Candidate

DOCUMENT = "tune-study"
VERSION = 1
STUDY_FILE = "study.json"
# The user's name for each condition.
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
    """The retrieval quality of one candidate.

    Attributes:
        sha256: hash of the exported file that was measured.
        solver_steps: steps of the exported solver; None if there is no solver.
        map_at_r, recall_at_1: in points of 100.
        emulated: the device only emulates this precision. The quality is the same as on hardware
            with this precision, but a latency would not be.
        notes: remarks for a reader, such as the number of layers that int8 left in float32.
    """

    sha256: str
    solver_steps: int | None
    map_at_r: float
    recall_at_1: float
    emulated: bool
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Speed:
    """The speed of one candidate relative to the reference, timed in turns, at one batch size.

    Attributes:
        ratio: median over rounds of its time divided by the reference's time in that round; it is
            reliable even on a noisy machine, while milliseconds are not.
        ratio_low, ratio_high: quartiles of these ratios.
        reference_p50: median of the reference's time in these rounds, ms.
    """

    ratio: float
    ratio_low: float
    ratio_high: float
    reference_p50: float

    @property
    def is_noisy(self) -> bool:
        """Whether the quartiles are too far apart to trust the ratio."""
        return self.ratio_high > NOISY * self.ratio_low


@dataclass
class Study:
    """All measurements so far.

    Attributes:
        folder: the folder of the study.
        conditions: the conditions of all figures; other conditions need another study.
        given: what the user wrote for a condition, if its value is a hash or a default.
        qualities: quality by candidate name.
        speeds: speed by candidate name and batch size.
        failures: why a candidate could not be made or run, by candidate name.
    """

    folder: Path
    conditions: Mapping[str, str]
    given: Mapping[str, str] = field(default_factory=dict)
    qualities: dict[str, Quality] = field(default_factory=dict)
    speeds: dict[str, dict[int, Speed]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)

    @property
    def path(self) -> Path:
        """The file of the study."""
        return self.folder / STUDY_FILE

    def model_path(self, candidate: Candidate) -> Path:
        """Return the path of a candidate's export; two runtimes share it."""
        return self.folder / "models" / f"{candidate.file_name}.onnx"

    def missing_batches(self, candidate: Candidate, batches: tuple[int, ...]) -> tuple[int, ...]:
        """Return the batch sizes without a time for this candidate."""
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
        UsageError: the folder contains something else, or a study with other conditions and
            `start_over` is false. The error names the first condition that differs.
    """
    require_utf8(folder)
    study = Study(folder, dict(conditions), dict(given or {}))
    if start_over and study.path.exists():
        shutil.rmtree(folder / "models", ignore_errors=True)
        study.save()  # replaces the old one; a folder without a study would be refused as foreign
        return study
    if not study.path.exists():
        if folder.exists() and (not folder.is_dir() or any(map(_is_foreign, folder.iterdir()))):
            raise UsageError(f"{folder} exists and contains no study; choose another folder")
        study.save()
        return study
    found = _read(study)
    for name, value in conditions.items():
        if found.conditions.get(name) != value:
            raise UsageError(
                f"{folder} contains a study with other conditions: {_change(name, found, study)}; "
                "choose another --folder, or pass --force to start over"
            )
    return found


def _change(name: str, before: Study, now: Study) -> str:
    """Describe how a condition differs, in the user's words."""
    was, is_now = (
        study.given.get(name) or study.conditions.get(name, "unknown") for study in (before, now)
    )
    named = OPTIONS.get(name, f"the {name}")
    if was == is_now:
        return f"{named}: the files of {is_now} have changed"
    return f"{named}: it was {was}, now it is {is_now}"


def _is_foreign(path: Path) -> bool:
    """Whether a path is anything but the leftover of a killed write of a study."""
    return not path.name.startswith(f".{STUDY_FILE}.")


def _read(study: Study) -> Study:
    try:
        data: Any = json.loads(read_regular_text(study.path))
        kind, version = data.pop("document"), data.pop("version")
        if (kind, version) != (DOCUMENT, VERSION):
            raise ConfigError(
                f"expected a {DOCUMENT!r} document of version {VERSION}, got {brief(kind)} of "
                f"version {brief(version)}"
            )
        return from_fields(Study, {**data, "folder": study.folder})
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UsageError(
            f"{study.path}: not a study that can be continued ({error}); pass --force to start over"
        ) from error

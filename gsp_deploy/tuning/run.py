"""Tune a model: measure every candidate, and collect the results."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gsp_deploy.artifact.kind import OPENVINO
from gsp_deploy.base.environment import can_import
from gsp_deploy.base.platforms import install_line
from gsp_deploy.base.progress import Progress
from gsp_deploy.data import Dataset
from gsp_deploy.errors import MissingCapabilityError, UsageError
from gsp_deploy.precision import PRECISIONS
from gsp_deploy.tuning.conditions import conditions_of, given_by
from gsp_deploy.tuning.forms import forms_of
from gsp_deploy.tuning.front import Point, front_of, points_of
from gsp_deploy.tuning.images import CalibrationImages, parts_for_tuning, scoring_images
from gsp_deploy.tuning.measurement import Workshop
from gsp_deploy.tuning.settings import TuningSettings
from gsp_deploy.tuning.space import Candidate, TuningSpace
from gsp_deploy.tuning.study import Study, open_study
from gsp_deploy.tuning.study_run import StudyRun


@dataclass(frozen=True, eq=False)
class Tuning:
    """The result of tuning.

    Attributes:
        checkpoint: the model's file.
        study: all measurements; its folder contains the exported files.
        candidates: all candidates, the reference first.
        points: candidates that could be measured, at each batch size.
        front: the Pareto front of each batch size, from `front_of`.
        notes: remarks that a reader of the figures needs.
    """

    checkpoint: Path
    study: Study
    candidates: tuple[Candidate, ...]
    points: tuple[Point, ...]
    front: tuple[Point, ...]
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON-able data."""
        return {
            "folder": str(self.study.folder),
            "conditions": dict(self.study.conditions),
            "points": [
                {
                    **asdict(point),
                    "images_per_second": point.images_per_second,
                    "on_front": point in self.front,
                    "notes": list(self.study.qualities[point.candidate.name].notes),
                }
                for point in self.points
            ],
            "failures": dict(self.study.failures),
            "notes": list(self.notes),
        }


def tune(
    checkpoint: str | os.PathLike[str],
    dataset: Dataset,
    folder: str | os.PathLike[str],
    space: TuningSpace | None = None,
    settings: TuningSettings | None = None,
    *,
    called: str | None = None,
    force: bool = False,
    observe: Progress = lambda doing, done, total: None,
) -> Tuning:
    """Measure every candidate on this device, and continue the study in `folder` if there is one.

    Accuracy is measured on the exported file with some of the data set's test images; fp16 and bf16
    are rounded as hardware does. Latency is measured for each candidate in turns with the
    reference. If a run was killed, the next one continues where it stopped; a wider space adds to
    the study.

    Args:
        checkpoint: the model, a checkpoint with its backbone or an adopted network in float32.
        dataset: images to score on, and to calibrate int8 on.
        folder: folder of the study.
        space: the combinations to try.
        settings: how to measure.
        called: the user's name for the data set, for messages.
        force: start the study over.
        observe: called with the current task, its number and the number of tasks.

    Raises:
        UsageError: the folder contains another study, or int8 has no images.
        CheckpointError: the file is not a checkpoint of gsp-deploy.
        MissingCapabilityError: engines are asked for, and TensorRT or a GPU is missing; or
            OpenVINO is asked for and not installed.
        GspDeployError: the reference cannot be exported or measured.
    """
    space, settings = space or TuningSpace(), settings or TuningSettings()
    dataset = parts_for_tuning(dataset, calibrates=settings.calibrate is None)
    workshop = _workshop(Path(checkpoint), dataset, settings)
    _check_runtimes(space, settings)
    found = space.candidates(workshop.forms.config, workshop.forms.has_one_size)
    candidates = tuple(filter(_is_native, found))
    wants_int8 = any(PRECISIONS[candidate.precision].quantised for candidate in candidates)
    if wants_int8 and not workshop.calibration.are_there:
        raise UsageError(
            f"int8 needs images to calibrate on, and {dataset.name} has no training part; pass "
            "--calibrate FOLDER, or leave int8 out of --precision"
        )
    conditions = conditions_of(workshop, settings)
    given = given_by(Path(checkpoint), called or dataset.name, settings)
    study = open_study(Path(folder), conditions, given, start_over=force)
    StudyRun(study, workshop, candidates, observe).run()
    points = points_of(study, candidates, settings.benchmark.batches)
    notes = (
        *workshop.dataset.notes,
        *_emulation_note(study, candidates),
        *_noise_note(points),
    )
    return Tuning(Path(checkpoint), study, candidates, points, front_of(points), notes)


def _check_runtimes(space: TuningSpace, settings: TuningSettings) -> None:
    bench = settings.benchmark
    if "openvino" not in space.runtimes:
        return
    if settings.engines or bench.provider is not None or bench.device != "cpu":
        raise UsageError(
            "OpenVINO runs exports on the CPU, without engines and providers; leave openvino out"
        )
    if not can_import("openvino"):
        raise MissingCapabilityError(
            f"OpenVINO is not installed: {install_line(OPENVINO.extra)}, or leave openvino out"
        )


def _is_native(candidate: Candidate) -> bool:
    """Whether a runtime computes in a candidate's precision; ONNX Runtime's may be emulated.

    OpenVINO would compute the others in float32: no faster, and no more accurate than fp32.
    """
    if candidate.runtime != "openvino" or not PRECISIONS[candidate.precision].lowered:
        return True
    from gsp_deploy.runtime.openvino_model import processor_precisions

    return candidate.precision in processor_precisions()


def _workshop(model: Path, dataset: Dataset, settings: TuningSettings) -> Workshop:
    return Workshop(
        forms=forms_of(model),
        dataset=scoring_images(dataset, settings.images),
        calibration=CalibrationImages(dataset, settings.calibrate),
        int8_drop=settings.int8_drop,
        settings=settings.benchmark,
        engines=settings.engines,
    )


def _emulation_note(study: Study, candidates: Sequence[Candidate]) -> list[str]:
    emulated = {
        candidate.precision
        for candidate in candidates
        if (found := study.qualities.get(candidate.name)) is not None and found.emulated
    }
    if not emulated:
        return []
    return [
        f"{' and '.join(sorted(emulated))}: emulated on this device. The accuracy is that of "
        "hardware with this precision; the latency would not be, so it is left out"
    ]


def _noise_note(points: Sequence[Point]) -> list[str]:
    timed = [point.speed for point in points if point.speed is not None]
    noisy = sum(speed.is_noisy for speed in timed)
    if not noisy:
        return []
    return [
        f"{noisy} of {len(timed)} latencies are noisy (the quartiles of their ratios are far "
        "apart): the machine was busy; measure again when it is idle, with --force"
    ]

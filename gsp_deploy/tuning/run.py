"""Tuning: every candidate is made, scored and timed, and each result is saved at once."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gsp_deploy.benchmark import BenchmarkSettings
from gsp_deploy.checkpoint import read_checkpoint
from gsp_deploy.config import ModelConfig
from gsp_deploy.data import Dataset
from gsp_deploy.environment import Environment, package_versions
from gsp_deploy.errors import CheckpointError, GspDeployError, UsageError
from gsp_deploy.export import ExportedModel
from gsp_deploy.files import sha256_of
from gsp_deploy.manifest import read_sidecar
from gsp_deploy.tuning.engines import check_machine
from gsp_deploy.tuning.front import Point, front_of, points_of
from gsp_deploy.tuning.images import CalibrationImages, scoring_images
from gsp_deploy.tuning.measure import Workshop
from gsp_deploy.tuning.space import Candidate, TuningSpace
from gsp_deploy.tuning.study import Study, open_study

# What is being done, how many candidates are done, and of how many.
Observer = Callable[[str, int, int], None]


TIMING = BenchmarkSettings(batches=(1, 8), repeats=30, twin=False, memory=False)


@dataclass(frozen=True)
class TuningSettings:
    """How candidates are measured.

    Args:
        images: test images to score on, about.
        calibrate: folder of images for int8; None takes the data set's training part.
        int8_drop: points of MAP@R that int8 may lose before it leaves layers in float32.
        benchmark: batch sizes, rounds, threads and device; there is no twin and no memory figure.
        engines: build a TensorRT engine of each export for the GPU that is here, and measure it.
    """

    images: int = 2000
    calibrate: Path | None = None
    int8_drop: float = 0.5
    benchmark: BenchmarkSettings = TIMING
    engines: bool = False

    def __post_init__(self) -> None:
        if self.images < 2:
            raise UsageError(f"expected at least 2 images to score on, got {self.images}")


@dataclass(frozen=True, eq=False)
class Tuning:
    """What came of it.

    Attributes:
        checkpoint: what was tuned.
        study: all measurements; its folder holds the exported files.
        candidates: all that were to be tried, the reference first.
        points: those that could be measured, at each batch size.
        front: the timed points that no other of their batch size beats.
        notes: what a reader of the figures should know.
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
    observe: Observer = lambda doing, done, total: None,
) -> Tuning:
    """Measure every candidate on this device, going on from what the folder's study holds.

    Accuracy is that of the exported file on some of the data set's test images, with fp16 and
    bf16 rounded as hardware does. Latency is that of each candidate in turns with the reference.
    A killed run goes on where it stopped; a wider space adds to what is there. `called` is what
    the user calls the data set, for messages.

    Raises:
        UsageError: the folder holds another study, or int8 has no images.
        CheckpointError: the checkpoint is none of ours.
        MissingCapabilityError: engines are asked for, and TensorRT or a GPU is missing.
        GspDeployError: the reference itself cannot be exported.
    """
    space, settings = space or TuningSpace(), settings or TuningSettings()
    workshop = _workshop(Path(checkpoint), dataset, settings)
    candidates = tuple(space.candidates(workshop.config))
    wants_int8 = any(candidate.precision == "int8" for candidate in candidates)
    if wants_int8 and not workshop.calibration.are_there:
        raise UsageError(
            f"int8 needs images to calibrate on, and {dataset.name} has no training part; pass "
            "--calibrate FOLDER, or leave int8 out of --precision"
        )
    runtime = check_machine() if settings.engines else _runtime()
    conditions = _conditions(workshop, settings, runtime)
    given = _given(Path(checkpoint), called or dataset.name, settings)
    study = open_study(Path(folder), conditions, given, start_over=force)
    progress = _Progress(study, workshop, candidates, observe)
    progress.run()
    points = points_of(study, candidates, settings.benchmark.batches)
    notes = (
        *workshop.dataset.notes,
        *_emulation_note(study, candidates),
        *_noise_note(points),
    )
    return Tuning(Path(checkpoint), study, candidates, points, front_of(points), notes)


class _Progress:
    """One pass over all candidates; what the study has is not measured again."""

    def __init__(
        self,
        study: Study,
        workshop: Workshop,
        candidates: Sequence[Candidate],
        observe: Observer,
    ) -> None:
        self.study, self.workshop, self.candidates = study, workshop, candidates
        self.observe = observe

    def run(self) -> None:
        for number, candidate in enumerate(self.candidates):
            if candidate.name in self.study.failures:
                continue
            try:
                self._measure(candidate, number)
            except GspDeployError as error:
                if number == 0:
                    raise  # without the reference there is nothing to compare with
                self.study.failures[candidate.name] = str(error)
                self.study.save()
        self.observe("done", len(self.candidates), len(self.candidates))

    def _measure(self, candidate: Candidate, number: int) -> None:
        study, name = self.study, candidate.name
        if self._repeats(candidate):
            return
        if name not in study.qualities:
            self._tell(f"exporting {name}", number)
            exported = self._export(candidate)
            self._tell(f"scoring {name}", number)
            study.qualities[name] = self.workshop.score(exported)
            study.save()
        batches = study.missing_batches(candidate, self.workshop.settings.batches)
        if not batches or study.qualities[name].emulated:
            return
        self._tell(f"timing {name}", number)
        model, reference = (self._file(c) for c in (candidate, self.candidates[0]))
        speeds = self.workshop.time(model, reference, batches)
        study.speeds.setdefault(name, {}).update(speeds)
        study.save()

    def _tell(self, doing: str, number: int) -> None:
        self.observe(doing, number, len(self.candidates))

    def _repeats(self, candidate: Candidate) -> bool:
        """Whether the certified number of steps is the one that this candidate asks for."""
        certified = self.study.qualities.get(_certified(candidate).name)
        return candidate.steps is not None and (
            certified is not None and certified.solver_steps == candidate.steps
        )

    def _export(self, candidate: Candidate) -> ExportedModel:
        sibling = self.study.model_path(_certified(candidate))
        return self.workshop.export(candidate, self.study.model_path(candidate), sibling)

    def _file(self, candidate: Candidate) -> Path:
        """Return the file that was scored; it is made again where it is gone."""
        path = self.study.model_path(candidate)
        measured = self.study.qualities[candidate.name].sha256
        if not path.exists() or sha256_of(path) != measured or read_sidecar(path) is None:
            self._export(candidate)
        return path


def _certified(candidate: Candidate) -> Candidate:
    return Candidate(candidate.precision, None, candidate.size)


def _workshop(checkpoint: Path, dataset: Dataset, settings: TuningSettings) -> Workshop:
    return Workshop(
        checkpoint=checkpoint,
        config=_config(checkpoint),
        dataset=scoring_images(dataset, settings.images),
        calibration=CalibrationImages(dataset, settings.calibrate),
        int8_drop=settings.int8_drop,
        settings=settings.benchmark,
        engines=settings.engines,
    )


def _config(checkpoint: Path) -> ModelConfig:
    if checkpoint.suffix == ".onnx":
        raise UsageError(
            f"{checkpoint}: tuning exports the model in many forms and starts from a checkpoint"
        )
    metadata = read_checkpoint(checkpoint).metadata
    if metadata is None:
        raise CheckpointError(
            f"{checkpoint}: a bare state dict does not say what model it is; load it with "
            "gsp_deploy.load_checkpoint(..., backbone=...) and save it with save_checkpoint"
        )
    return metadata.model


def _conditions(workshop: Workshop, settings: TuningSettings, runtime: str) -> dict[str, str]:
    """Return what all figures of one study have in common, in words that are compared."""
    here, bench = Environment.here(), settings.benchmark
    return {
        "model": sha256_of(workshop.checkpoint),
        "data": workshop.dataset.test.fingerprint(),
        "calibration": workshop.calibration.fingerprint(),
        "int8 drop": f"{settings.int8_drop:g}",
        "processor": f"{here.processor}, {here.cores} cores",
        "runtime": runtime,
        "device": bench.device,
        "provider": str(bench.provider),
        "threads": str(bench.threads),
        "rounds": f"{bench.warmup} and {bench.seconds or bench.repeats}",
    }


def _given(checkpoint: Path, data: str, settings: TuningSettings) -> dict[str, str]:
    """Return a user's words for those conditions that are hashes or defaults."""
    bench = settings.benchmark
    folder = settings.calibrate
    return {
        "model": str(checkpoint),
        "data": f"{data} (--images {settings.images})",
        "calibration": f"the training part of {data}" if folder is None else str(folder),
        "provider": bench.provider or "the device's own",
        "threads": "the runtime's choice" if bench.threads is None else str(bench.threads),
        "rounds": str(bench.seconds or bench.repeats),
    }


def _runtime() -> str:
    found = package_versions(("onnxruntime", "onnxruntime-gpu"))
    return ", ".join(f"{name} {version}" for name, version in found.items())


def _emulation_note(study: Study, candidates: Sequence[Candidate]) -> list[str]:
    emulated = {
        candidate.precision
        for candidate in candidates
        if (found := study.qualities.get(candidate.name)) is not None and found.emulated
    }
    if not emulated:
        return []
    return [
        f"{' and '.join(sorted(emulated))}: emulated on this device. Their accuracy is that of "
        "hardware that has them; their latency would not be, and is left out"
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

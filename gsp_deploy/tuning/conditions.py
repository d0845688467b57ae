"""The conditions of a study: all its figures must be measured under the same ones."""

from __future__ import annotations

from pathlib import Path

from gsp_deploy.artifact.identity import identity
from gsp_deploy.base.environment import Environment, package_versions
from gsp_deploy.tuning.engines import check_machine
from gsp_deploy.tuning.measurement import Workshop
from gsp_deploy.tuning.settings import TuningSettings


def conditions_of(workshop: Workshop, settings: TuningSettings) -> dict[str, str]:
    """Return the conditions of a study by name, as text to compare with those of a saved study.

    Raises:
        MissingCapabilityError: engines are asked for, and TensorRT or a GPU is missing.
    """
    here, bench = Environment.here(), settings.benchmark
    return {
        "model": identity(workshop.forms.path),
        "data": workshop.dataset.test.fingerprint(),
        "calibration": workshop.calibration.fingerprint(),
        "int8 drop": f"{settings.int8_drop:g}",
        "processor": f"{here.processor}, {here.cores} cores",
        "runtime": check_machine() if settings.engines else _runtime(),
        "device": bench.device,
        "provider": str(bench.provider),
        "threads": str(bench.threads),
        "rounds": f"{bench.warmup} and {bench.seconds or bench.repeats}",
    }


def given_by(checkpoint: Path, data: str, settings: TuningSettings) -> dict[str, str]:
    """Return what the user wrote for conditions that are hashes or defaults, for messages."""
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
    found = package_versions(("onnxruntime", "onnxruntime-gpu", "openvino"))
    return ", ".join(f"{name} {version}" for name, version in found.items())

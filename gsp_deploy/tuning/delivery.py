"""Copy the chosen candidate to its output: the model, its manifest and its settings."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path

from gsp_deploy.artifact import read_sidecar, sidecar_path
from gsp_deploy.base.files import replacing_together
from gsp_deploy.errors import ModelFileError
from gsp_deploy.tuning.front import Point
from gsp_deploy.tuning.run import Tuning

DOCUMENT = "tuned"
VERSION = 1


def settings_path(model: Path) -> Path:
    """Return the path of a tuned model's settings: `<model>.tune.json`."""
    return model.with_name(model.name + ".tune.json")


def deliver(tuning: Tuning, chosen: Point, output: Path) -> None:
    """Copy the chosen export to `output`, with its manifest and its settings next to it.

    Raises:
        ModelFileError: the export's manifest is missing, or its weights are in a second file.
        GspDeployError: a file cannot be written.
    """
    source = tuning.study.model_path(chosen.candidate)
    manifest = read_sidecar(source)
    if manifest is None or manifest.external_data is not None:
        raise ModelFileError(
            f"{source}: expected a model with a manifest and its weights in the same file; "
            "copy all files of its folder yourself, and keep their names"
        )
    settings = {
        "document": DOCUMENT,
        "version": VERSION,
        **asdict(chosen),
        "images_per_second": chosen.images_per_second,
        "notes": list(tuning.study.qualities[chosen.candidate.name].notes),
        "conditions": dict(tuning.study.conditions),
    }
    targets = (settings_path(output), sidecar_path(output), output)
    with replacing_together(*targets) as (described, sidecar, model):
        described.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
        shutil.copyfile(sidecar_path(source), sidecar)
        shutil.copyfile(source, model)

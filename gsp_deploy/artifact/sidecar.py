"""Read and write the manifest beside a model, `<model>.json`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol

from gsp_deploy.artifact.export_manifest import ExportManifest
from gsp_deploy.artifact.identity import identity, weight_files
from gsp_deploy.base.file_names import require_utf8
from gsp_deploy.base.files import refuse_overwrite, sha256_of, write_text
from gsp_deploy.errors import ModelFileError, reason_of


class Manifest(Protocol):
    """A manifest that is kept beside its model: of an ONNX file, or of an engine."""

    def to_json(self) -> str:
        """Return the manifest as indented JSON."""


def sidecar_path(model: str | os.PathLike[str]) -> Path:
    """Return the path of a model file's manifest: `<model>.json`."""
    path = Path(model)
    return path.with_name(path.name + ".json")


def refuse_model_overwrite(model: Path, force: bool) -> None:
    """Call `refuse_overwrite` for a model, its manifest and the weights beside it."""
    require_utf8(model)
    for file in (model, sidecar_path(model), model.with_name(f"{model.name}.data")):
        refuse_overwrite(file, force)


def write_sidecar(manifest: Manifest, model: str | os.PathLike[str]) -> Path:
    """Write the manifest of an ONNX file or an engine beside it, and return its path."""
    path = sidecar_path(model)
    write_text(path, manifest.to_json() + "\n")
    return path


def read_sidecar(model: str | os.PathLike[str]) -> ExportManifest | None:
    """Return the manifest beside a model, or None if there is none.

    Raises:
        ModelFileError: it is damaged.
    """
    text = sidecar_text(model, "the manifest")
    return None if text is None else ExportManifest.from_json(text, sidecar_path(model))


def check_described(manifest: ExportManifest, model: str | os.PathLike[str]) -> None:
    """Raise `ModelFileError` if the manifest beside a model describes another file."""
    path, beside = Path(model), sidecar_path(model)
    if manifest.sha256 in (None, identity(path)):
        return
    files = [file.relative_to(path.parent).as_posix() for file in weight_files(path)]
    if files and manifest.sha256 == sha256_of(path):
        raise ModelFileError(
            f"{path}: {beside.name} is of an earlier version, which did not hash the weights in "
            f"{', '.join(files)}; export the model again, or delete {beside.name}"
        )
    parts = " with ".join([path.name, *files])
    raise ModelFileError(
        f"{path} is not the file that {beside.name} describes (the SHA-256 of {parts} differs): "
        f"copy all of them again, together; if the model was changed on purpose, delete "
        f"{beside.name}"
    )


def sidecar_text(model: str | os.PathLike[str], what: str) -> str | None:
    """Return the text of the file beside a model, or None if there is none; errors call it `what`.

    Raises:
        ModelFileError: it exists but cannot be read.
    """
    path = sidecar_path(model)
    if not path.is_file():
        return None
    try:
        return path.read_text(encoding="utf-8")
    except (UnicodeDecodeError, OSError) as error:
        raise ModelFileError(f"{path}: {what} is damaged ({reason_of(error)})") from error

"""Find the ONNX file that an engine was built from."""

from __future__ import annotations

from pathlib import Path

from gsp_deploy.artifact.engine_manifest import EngineManifest
from gsp_deploy.artifact.identity import identity
from gsp_deploy.errors import ModelFileError


def onnx_of(engine: Path, manifest: EngineManifest | None) -> tuple[Path, EngineManifest]:
    """Return the ONNX file, which must still be beside the engine, and the engine's manifest.

    Raises:
        ModelFileError: no manifest names the file, or it is missing or has changed.
    """
    if manifest is None:
        raise ModelFileError(f"{engine} has no manifest that names its ONNX file")
    path = engine.with_name(manifest.onnx_name)
    if not path.is_file() or identity(path) != manifest.onnx_sha256:
        raise ModelFileError(
            f"{path.name}, which the engine was built from, is not beside it or has changed"
        )
    return path, manifest

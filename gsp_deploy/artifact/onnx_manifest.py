"""Read the manifest of an ONNX file, from the file beside it or (with onnx) from inside it."""

from __future__ import annotations

from pathlib import Path

from gsp_deploy.artifact import METADATA_KEY, ExportManifest, check_described, read_sidecar
from gsp_deploy.artifact.identity import weight_files
from gsp_deploy.errors import ModelFileError, reason_of


def read_onnx_manifest(source: Path) -> ExportManifest | None:
    """Return the manifest of an ONNX file; None if gsp-deploy did not export it.

    A Jetson can build without the onnx package: the file beside the model is enough.

    Raises:
        ModelFileError: the file or its weights are missing or damaged, or the manifest beside it
            describes another file.
    """
    if not source.is_file():
        raise ModelFileError(f"{source}: no such model file")
    weight_files(source)  # before other code opens files that the graph names
    beside = read_sidecar(source)
    if beside is not None:
        check_described(beside, source)
        return beside
    try:
        import onnx  # some machines that build engines do not have it
    except ModuleNotFoundError:
        return None
    try:
        model = onnx.load(source, load_external_data=False)
    except Exception as error:  # protobuf raises several types of its own
        raise ModelFileError(f"{source}: not a whole ONNX file ({reason_of(error)})") from error
    text = {entry.key: entry.value for entry in model.metadata_props}.get(METADATA_KEY)
    return None if text is None else ExportManifest.from_json(text, source)


def check_runnable(path: Path, manifest: ExportManifest | None, runtime: str) -> None:
    """Refuse a file that a runtime without plugins cannot run, or that its manifest misdescribes.

    Raises:
        ModelFileError: the pooling is a bare node, or the manifest is of another file.
    """
    if manifest is None:
        return
    if manifest.pooling_form == "plugin-bare":
        raise ModelFileError(
            f"{path} has the pooling as a bare node, which only TensorRT with the plugin can run; "
            f"for {runtime} export it without --bare"
        )
    check_described(manifest, path)

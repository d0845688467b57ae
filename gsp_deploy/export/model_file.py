"""Read and write exported ONNX files with their manifest; a write is complete or leaves nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import onnx
import onnx_ir as ir

import gsp_deploy
from gsp_deploy.artifact import (
    METADATA_KEY,
    ExportManifest,
    TensorSpec,
    sidecar_path,
    write_sidecar,
)
from gsp_deploy.artifact.artifact import Artifact
from gsp_deploy.artifact.external_data import without_links
from gsp_deploy.artifact.identity import identity
from gsp_deploy.artifact.kind import ONNX
from gsp_deploy.base.files import replacing_together
from gsp_deploy.errors import GspDeployError, ModelFileError, reason_of

# Protobuf ends at 2 GB; stay clear of it.
EXTERNAL_DATA_BYTES = 1_900_000_000


def read_model(path: Path, hint: str) -> tuple[ir.Model, ExportManifest]:
    """Read a file that gsp-deploy exported: its graph, and the manifest inside.

    Args:
        path: the file.
        hint: what the error says to do if the file contains no manifest.

    Raises:
        ModelFileError: the file is missing or damaged, or gsp-deploy did not export it.
    """
    network = load_network(path)
    text = network.metadata_props.get(METADATA_KEY)
    if text is None:
        raise ModelFileError(f"{path}: not an export of gsp-deploy, it carries no manifest; {hint}")
    return network, ExportManifest.from_json(text, path)


def load_network(path: Path) -> ir.Model:
    """Read the graph of any ONNX file, with its weights.

    Raises:
        ModelFileError: the file is missing or damaged.
    """
    if not path.is_file():
        raise ModelFileError(f"{path}: no such model file")
    with without_links(path) as plain:
        try:
            network = ir.load(plain)
            if plain != path:  # the copy ends with the block
                ir.external_data.load_to_model(network)
        except Exception as error:  # protobuf and onnx_ir raise a dozen types of their own
            raise ModelFileError(f"{path}: not a whole ONNX file ({reason_of(error)})") from error
    return network


def write_model(
    network: ir.Model, path: Path, manifest: ExportManifest, external_data: bool
) -> Artifact[ExportManifest]:
    """Check the whole model, then move it, its data and its manifest into place.

    The weights go into a file beside it if you ask for that, or if protobuf cannot hold them.

    Raises:
        GspDeployError: the graph is invalid, or the file cannot be written.
    """
    is_large = external_data or weight_bytes(network) > EXTERNAL_DATA_BYTES
    if not is_large:
        ir.external_data.load_to_model(network)  # the source may keep them beside it
    manifest = replace(manifest, external_data=f"{path.name}.data" if is_large else None)
    _describe(network, replace(manifest, sha256=None))
    data = [] if manifest.external_data is None else [path.with_name(manifest.external_data)]
    with replacing_together(*data, sidecar_path(path), path) as (*_, draft):
        ir.save(network, draft, external_data=manifest.external_data)
        try:
            onnx.checker.check_model(str(draft), full_check=True)
        except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
            raise GspDeployError(f"the exported graph is invalid: {reason_of(error)}") from error
        manifest = replace(manifest, sha256=identity(draft))
        write_sidecar(manifest, draft)
    return Artifact(path, ONNX, manifest)


def spec_of(value: ir.Value) -> TensorSpec:
    """Return an input or output of a graph for its manifest."""
    assert value.shape is not None
    assert value.dtype is not None
    assert value.name is not None
    shape = tuple(size if isinstance(size, int) else str(size) for size in value.shape)
    return TensorSpec(value.name, value.dtype.numpy().name, shape)


def weight_bytes(network: ir.Model) -> int:
    """Return how many bytes the weights of a graph take."""
    weights = (value.const_value for value in network.graph.initializers.values())
    return sum(int(weight.nbytes) for weight in weights if weight is not None)


def _describe(network: ir.Model, manifest: ExportManifest) -> None:
    properties = network.metadata_props
    properties[METADATA_KEY] = manifest.to_json()
    properties["gsp_deploy.version"] = gsp_deploy.__version__
    properties["gsp_deploy.model_name"] = manifest.model.backbone
    properties["gsp_deploy.license"] = str(manifest.provenance.get("license") or "unknown")

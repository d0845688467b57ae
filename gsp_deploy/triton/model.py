"""Read what Triton needs to know about a model from its manifest, without a runtime or a GPU."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gsp_deploy.artifact import ExportManifest, TensorSpec, read_sidecar
from gsp_deploy.artifact.engine_manifest import EngineManifest, read_engine_sidecar
from gsp_deploy.artifact.identity import weight_files
from gsp_deploy.artifact.kind import ENGINE, ONNX, require_kind
from gsp_deploy.config import PreprocessingSpec
from gsp_deploy.errors import ModelFileError, UsageError

Backend = Literal["onnxruntime", "tensorrt"]


@dataclass(frozen=True)
class ServedModel:
    """A model file for a Triton backend.

    Attributes:
        path: the file.
        backend: the backend that runs it.
        input, outputs: its tensors, with the batch as the first dimension.
        preprocessing: how an image is converted to the input.
        max_batch: the largest batch that it takes; None if it takes any size.
        weights: the files next to it with its weights.
        plugin: name of the plugin library that it needs; None if it needs none.
        is_version_compatible: whether it is a plan with its own lean runtime.
    """

    path: Path
    backend: Backend
    input: TensorSpec
    outputs: tuple[TensorSpec, ...]
    preprocessing: PreprocessingSpec
    max_batch: int | None = None
    weights: tuple[Path, ...] = ()
    plugin: str | None = None
    is_version_compatible: bool = False

    @property
    def includes_preprocessing(self) -> bool:
        """Whether the graph takes uint8 pixels and normalises them itself."""
        return self.input.dtype == "uint8"

    @property
    def file_name(self) -> str:
        """The file name that the backend expects."""
        return "model.plan" if self.backend == "tensorrt" else "model.onnx"


def served_model(path: Path) -> ServedModel:
    """Describe a model file from the manifest next to it.

    Raises:
        UsageError: Triton cannot serve this kind of file, or cannot batch it.
        ModelFileError: the file or its manifest is missing or damaged.
    """
    if not path.is_file():
        raise ModelFileError(f"{path}: no such model file")
    kind = require_kind(
        path, ONNX, ENGINE, what="a model for Triton", hint="export the checkpoint first"
    )
    return _engine(path) if kind is ENGINE else _onnx(path)


def _onnx(path: Path) -> ServedModel:
    manifest = read_sidecar(path)
    if manifest is None:
        raise ModelFileError(f"{path}: its manifest {path.name}.json is missing; export it again")
    _check_batch(path, manifest.inputs[0], "export it without --static-batch")
    return ServedModel(
        path,
        "onnxruntime",
        manifest.inputs[0],
        manifest.outputs,
        _preprocessing(path, manifest),
        weights=weight_files(path),
    )


def _engine(path: Path) -> ServedModel:
    manifest = read_engine_sidecar(path)
    if manifest is None:
        raise ModelFileError(f"{path}: its manifest {path.name}.json is missing; build it again")
    if manifest.flavour != "tensorrt":
        raise UsageError(
            f"{path}: Triton runs plans of TensorRT, this one is of {manifest.flavour}; build it "
            "with TensorRT"
        )
    _check_batch(path, manifest.inputs[0], "build it from an export with an open batch")
    return ServedModel(
        path,
        "tensorrt",
        manifest.inputs[0],
        manifest.outputs,
        _preprocessing(path, manifest.export),
        max_batch=_profile_batch(manifest),
        plugin=_plugin_beside(manifest),
        is_version_compatible=manifest.contains_host_code,
    )


def _plugin_beside(manifest: EngineManifest) -> str | None:
    plugin = manifest.plugin
    return None if plugin is None or plugin.inside else plugin.library


def _profile_batch(manifest: EngineManifest) -> int:
    """Return the largest batch of the first profile, the one that the configuration chooses."""
    return manifest.profiles[0][manifest.inputs[0].name].max[0]


def _check_batch(path: Path, tensor: TensorSpec, remedy: str) -> None:
    if isinstance(tensor.shape[0], int):
        raise UsageError(
            f"{path}: dynamic batching needs an open batch size, this one is {tensor.shape[0]}; "
            f"{remedy}"
        )


def _preprocessing(path: Path, manifest: ExportManifest | None) -> PreprocessingSpec:
    if manifest is None or manifest.preprocessing is None:
        raise UsageError(
            f"{path}: expected a model that says how to prepare images, got one without; export a "
            "checkpoint with its backbone"
        )
    return manifest.preprocessing

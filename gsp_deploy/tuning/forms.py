"""Make the forms of a model that a study compares, from a checkpoint or an adopted network."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from gsp_deploy.artifact import ExportManifest
from gsp_deploy.artifact.artifact import Artifact
from gsp_deploy.artifact.kind import ONNX, kind_of
from gsp_deploy.artifact.onnx_manifest import read_onnx_manifest
from gsp_deploy.checkpoint import load_checkpoint, read_checkpoint
from gsp_deploy.config import AdoptedHead, ModelConfig
from gsp_deploy.errors import CheckpointError, UsageError
from gsp_deploy.export import (
    ExportOptions,
    QuantisationImages,
    Source,
    export_onnx,
    quantise_adopted,
)
from gsp_deploy.export.adoption import copy_at_size
from gsp_deploy.export.conversion import convert_precision
from gsp_deploy.precision import PRECISIONS
from gsp_deploy.tuning.space import Candidate


class Forms(Protocol):
    """The forms of one model."""

    @property
    def path(self) -> Path:
        """The model's file."""

    @property
    def config(self) -> ModelConfig:
        """The model."""

    @property
    def has_one_size(self) -> bool:
        """Whether the model takes images of one size only."""

    def make(
        self, candidate: Candidate, path: Path, images: QuantisationImages | None, max_drop: float
    ) -> Artifact[ExportManifest]:
        """Write one form as ONNX.

        Args:
            candidate: the form.
            path: where to write.
            images: of int8; None for the other precisions.
            max_drop: points of MAP@R that int8 may lose before layers stay in float32.

        Raises:
            GspDeployError: the form cannot be made.
        """


def forms_of(path: Path) -> Forms:
    """Read a model to tune.

    Raises:
        UsageError: the file is an export of gsp-deploy, whose checkpoint can be tuned.
        CheckpointError, ModelFileError: the file is damaged or has no settings.
    """
    if kind_of(path) is not ONNX:
        return CheckpointForms(path, _config_of(path))
    manifest = read_onnx_manifest(path)
    if manifest is None or not isinstance(manifest.model.head, AdoptedHead):
        raise UsageError(
            f"{path}: tuning exports the model in many forms and starts from a checkpoint; pass "
            "the model's .safetensors, or a network that you adopted"
        )
    if manifest.precision != "fp32":
        raise UsageError(
            f"{path} is {manifest.precision}, and tuning starts from float32; adopt the network in "
            "float32"
        )
    return AdoptedForms(path, manifest)


@dataclass(frozen=True)
class CheckpointForms:
    """Exports of a checkpoint."""

    path: Path
    config: ModelConfig
    has_one_size: bool = False

    def make(
        self, candidate: Candidate, path: Path, images: QuantisationImages | None, max_drop: float
    ) -> Artifact[ExportManifest]:
        """Export the checkpoint in that form."""
        model = load_checkpoint(self.path)
        assert model.config.preprocessing is not None  # `reference_of` refused a head alone
        spec = candidate.preprocessing(model.config.preprocessing)
        model.config = replace(model.config, preprocessing=spec)
        options = ExportOptions(
            precision=candidate.precision, iterations=candidate.steps, max_drop=max_drop
        )
        source = Source.of(self.path)
        return export_onnx(model, path, options, source=source, quantisation=images)


@dataclass(frozen=True)
class AdoptedForms:
    """Conversions of an adopted network in float32."""

    path: Path
    manifest: ExportManifest

    @property
    def config(self) -> ModelConfig:
        """The model."""
        return self.manifest.model

    @property
    def has_one_size(self) -> bool:
        """Whether height or width is fixed in the graph."""
        return sum(not isinstance(size, int) for size in self.manifest.inputs[0].shape[1:]) < 2

    def make(
        self, candidate: Candidate, path: Path, images: QuantisationImages | None, max_drop: float
    ) -> Artifact[ExportManifest]:
        """Copy the network at that size, and convert the copy."""
        assert self.config.preprocessing is not None  # an adopted network always has it
        spec = candidate.preprocessing(self.config.preprocessing)
        if candidate.precision == "fp32":
            return copy_at_size(self.path, path, spec)
        plain = path.with_name(f"{path.stem}-float32.onnx")
        copied = copy_at_size(self.path, plain, spec).path
        try:
            if not PRECISIONS[candidate.precision].quantised:
                return convert_precision(copied, path, candidate.precision)
            assert images is not None  # the caller has them for int8
            options = ExportOptions(precision=candidate.precision, max_drop=max_drop)
            return quantise_adopted(copied, path, images, options)
        finally:
            for file in plain.parent.glob(f"{plain.name}*"):
                file.unlink()


def _config_of(checkpoint: Path) -> ModelConfig:
    metadata = read_checkpoint(checkpoint).metadata
    if metadata is None:
        raise CheckpointError(
            f"{checkpoint}: expected a checkpoint with its settings, got a bare state dict; load "
            "it with gsp_deploy.load_checkpoint(..., backbone=...) and save it with save_checkpoint"
        )
    return metadata.model

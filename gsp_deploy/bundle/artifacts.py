"""The artifacts of a bundle that can run in a runtime, and how precise each is."""

from __future__ import annotations

from dataclasses import replace

from gsp_deploy.artifact.bundle_manifest import BundledArtifact, BundleManifest
from gsp_deploy.base.choices import RuntimeWord
from gsp_deploy.bundle.golden import allowed_distance
from gsp_deploy.errors import ModelFileError, UsageError
from gsp_deploy.precision import FloatPrecisionWord, lowered_to


def in_openvino(artifact: BundledArtifact, precision: FloatPrecisionWord | None) -> BundledArtifact:
    """Return an ONNX file's artifact for OpenVINO, which computes its floats in `precision`."""
    resulting = lowered_to(artifact.precision, precision)
    return replace(
        artifact,
        runtime="openvino",
        precision=resulting,
        max_cosine_distance=allowed_distance(resulting),
        computes=precision,
    )


def artifacts_for(
    manifest: BundleManifest, runtime: RuntimeWord | None, precision: FloatPrecisionWord | None
) -> tuple[BundledArtifact, ...]:
    """Return the artifacts to try, in order: all, or the ONNX file in the runtime that you name.

    If the bundle has an artifact for that runtime, its precision holds unless you name another.

    Raises:
        UsageError: you name a precision without the runtime OpenVINO.
        ModelFileError: the bundle has no ONNX file for ONNX Runtime, and you name a runtime.
    """
    if precision is not None and runtime != "openvino":
        raise UsageError("precision is a setting of OpenVINO; pass the runtime openvino")
    if runtime is None:
        return manifest.artifacts
    own = [artifact for artifact in manifest.artifacts if artifact.runtime == runtime]
    if own and precision is None:
        return tuple(own)
    for artifact in manifest.artifacts:
        if artifact.runtime == "onnxruntime":  # every bundle has one
            return (in_openvino(artifact, precision),)
    raise ModelFileError(
        f"the bundle has no ONNX model, only {manifest.artifacts[0].file}; leave out the runtime"
    )

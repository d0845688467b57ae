"""Build a TensorRT engine from each export, to measure it on this machine's GPU."""

from __future__ import annotations

from pathlib import Path

from gsp_deploy.artifact.engine_manifest import EngineManifest, read_engine_sidecar
from gsp_deploy.artifact.identity import identity
from gsp_deploy.engine.build import build_engine
from gsp_deploy.engine.machine import Machine
from gsp_deploy.engine.options import BuildOptions
from gsp_deploy.engine.profiles import SizeRange
from gsp_deploy.errors import MissingCapabilityError


def check_machine() -> str:
    """Return the names of the TensorRT and the GPU that engines are built for.

    Raises:
        MissingCapabilityError: there is no TensorRT, or no GPU to measure on.
    """
    machine = Machine.here()
    if machine.flavour is None or machine.device is None:
        lacking = "no TensorRT" if machine.flavour is None else "no GPU that CUDA can use"
        raise MissingCapabilityError(
            f"--engines needs TensorRT and a GPU, and this machine has {lacking}; leave it out to "
            "measure ONNX Runtime"
        )
    return f"{machine.flavour} {machine.tensorrt_version} on {machine.device}"


def engine_of(onnx: Path, largest_batch: int) -> Path:
    """Return the engine of an export; build it unless an engine of the same file is next to it.

    Raises:
        GspDeployError: TensorRT cannot build it.
    """
    plan = onnx.with_suffix(".engine")
    manifest = read_engine_sidecar(plan) if plan.exists() else None
    if manifest is None or not _serves(manifest, onnx, largest_batch):
        batch = SizeRange(1, largest_batch, largest_batch)
        build_engine(onnx, plan, BuildOptions(batches=(batch,)))
    return plan


def _serves(manifest: EngineManifest, onnx: Path, largest_batch: int) -> bool:
    """Whether a plan was built from this ONNX file and takes batches of that size."""
    most = [shapes.max[0] for profile in manifest.profiles for shapes in profile.values()]
    return max(most) >= largest_batch and manifest.onnx_sha256 == identity(onnx)

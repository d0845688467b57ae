"""Build the twin of an engine: its ONNX file with average pooling, for the same shapes."""

from __future__ import annotations

from pathlib import Path

from gsp_deploy.artifact.engine_manifest import EngineManifest, ShapeRange
from gsp_deploy.artifact.engine_source import onnx_of
from gsp_deploy.engine.build import build_engine
from gsp_deploy.engine.options import BuildOptions
from gsp_deploy.engine.profiles import SizeRange, SpatialRange
from gsp_deploy.export.twin import write_twin


def write_engine_twin(engine: Path, manifest: EngineManifest | None, target: Path) -> None:
    """Build the twin of an engine at `target`, with the same shapes, precision and build options.

    Raises:
        ModelFileError: the ONNX file is not beside the engine, or has no GSP head.
        GspDeployError: TensorRT cannot build it.
    """
    source, manifest = onnx_of(engine, manifest)
    plain = target.with_suffix(".onnx")
    write_twin(source, plain)
    build_engine(plain, target, _options(manifest), manifest.flavour)


def _options(manifest: EngineManifest) -> BuildOptions:
    shapes = [next(iter(profile.values())) for profile in manifest.profiles]
    images = manifest.inputs[0]
    open_sizes = [isinstance(size, str) for size in images.shape]
    height = 1 if images.dtype == "uint8" else 2
    targets = manifest.compute_capabilities if manifest.flavour == "tensorrt-rtx" else ()
    return BuildOptions(
        batches=tuple(_batches(shape) for shape in shapes) if open_sizes[0] else (),
        sizes=tuple(_spatial(shape, height) for shape in shapes) if open_sizes[height] else (),
        targets=targets,
        workspace=manifest.options.get("workspace"),
        optimization_level=manifest.options.get("optimization_level"),
        hardware_compatibility=manifest.hardware_compatibility,
        refit=manifest.options.get("refit", False),
        tf32=manifest.options.get("tf32", False),
    )


def _batches(shape: ShapeRange) -> SizeRange:
    return SizeRange(shape.min[0], shape.opt[0], shape.max[0])


def _spatial(shape: ShapeRange, height: int) -> SpatialRange:
    sizes = (
        SizeRange(shape.min[axis], shape.opt[axis], shape.max[axis])
        for axis in (height, height + 1)
    )
    return SpatialRange(*sizes)

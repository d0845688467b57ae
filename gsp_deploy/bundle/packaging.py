"""Package a model file as a bundle."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np

from gsp_deploy import __version__
from gsp_deploy.artifact import ExportManifest, sidecar_path
from gsp_deploy.artifact.bundle_manifest import MANIFEST_NAME, BundledArtifact, BundleManifest
from gsp_deploy.artifact.engine_manifest import (
    EngineManifest,
    check_plan,
    read_engine_sidecar,
)
from gsp_deploy.artifact.identity import SUMS_NAME, identity, weight_files
from gsp_deploy.artifact.kind import ENGINE, ONNX, require_kind
from gsp_deploy.base.choices import RuntimeWord
from gsp_deploy.base.file_names import require_utf8
from gsp_deploy.base.files import refuse_inputs_inside, sha256_of, write_text
from gsp_deploy.base.folders import new_folder
from gsp_deploy.base.progress import Announce
from gsp_deploy.bundle.artifacts import in_openvino
from gsp_deploy.bundle.files import copy_file, foreign_file, write_sums
from gsp_deploy.bundle.golden import (
    FILES,
    GoldenImages,
    allowed_distance,
    built_in_images,
    images_of,
    write_golden,
)
from gsp_deploy.bundle.readme import licence_text, readme_text
from gsp_deploy.config import PreprocessingSpec
from gsp_deploy.errors import ModelFileError, UsageError
from gsp_deploy.precision import FloatPrecisionWord
from gsp_deploy.runtime import open_session


@dataclass(frozen=True)
class PackageOptions:
    """Options for packaging a bundle.

    Attributes:
        onnx: for an engine, its ONNX file, which computes the golden embeddings and is the
            bundle's fallback. None for an ONNX model.
        plugin: the shared object that the engine needs.
        images: folders, files or patterns of golden images; None takes built-in photographs.
        license: a licence file; None writes one from the model's provenance.
        force: replace a bundle of the same name.
        runtime: what runs an ONNX model first: `openvino`, with ONNX Runtime as the fallback, or
            `onnxruntime` (None too).
        precision: what OpenVINO computes floats in; None leaves it to the file and the processor.
    """

    onnx: Path | None = None
    plugin: Path | None = None
    images: Sequence[str] | None = None
    license: Path | None = None
    force: bool = False
    runtime: RuntimeWord | None = None
    precision: FloatPrecisionWord | None = None

    def __post_init__(self) -> None:
        if self.precision is not None and self.runtime != "openvino":
            raise UsageError("precision is a setting of OpenVINO; pass the runtime openvino")


@dataclass(frozen=True, eq=False)
class ModelToPackage:
    """A model file, the files that belong to it, and its golden vectors.

    Attributes:
        path: the model file, an ONNX model or an engine.
        onnx: the ONNX file: `path` itself, or the source of the engine.
        export: the ONNX file's manifest.
        spec: how an image becomes the input.
        engine: the engine's manifest; None for an ONNX model.
        golden: images for the golden vectors.
        embeddings: the ONNX file's embeddings of those images on this machine, float32 `(n, D)`.
    """

    path: Path
    onnx: Path
    export: ExportManifest
    spec: PreprocessingSpec
    engine: EngineManifest | None
    golden: GoldenImages
    embeddings: np.ndarray


@dataclass(frozen=True)
class PackagedBundle:
    """A written bundle: the folder, its manifest, and its files with their sizes in bytes."""

    folder: Path
    manifest: BundleManifest
    golden_source: str
    files: tuple[tuple[str, int], ...]


def prepare_model(
    path: Path, options: PackageOptions, announce: Announce = lambda line: None
) -> ModelToPackage:
    """Check a model and the files that belong to it, and compute its golden vectors.

    `announce` receives one line with the number of files that are no images.

    Raises:
        UsageError: this kind of model cannot be packaged, or an option does not apply to it.
        ModelFileError: the model, or a file that belongs to it, is missing or damaged.
        MissingCapabilityError: ONNX Runtime or the built-in photographs are not installed.
    """
    engine = _engine_of(path, options)
    onnx = path if engine is None else _onnx_of(path, engine, options)
    with open_session(onnx, "cpu", threads=1) as session:
        export = session.info.manifest
        if export is None:
            raise UsageError(
                f"{onnx} was not exported by gsp-deploy; take it with `gsp-deploy adopt`, or "
                "export the model with `gsp-deploy export`"
            )
        spec = export.preprocessing
        if spec is None:
            raise UsageError(f"{onnx} is a head alone and takes no images; package a whole model")
        golden = (
            built_in_images(export.model, spec)
            if options.images is None
            else images_of(options.images, spec, announce)
        )
        embeddings = session.embed(golden.images)
    return ModelToPackage(path, onnx, export, spec, engine, golden, embeddings)


def package_model(
    model: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    options: PackageOptions | None = None,
    announce: Announce = lambda line: None,
) -> PackagedBundle:
    """Write a bundle, whole or not at all. The same inputs give the same bytes.

    `announce` receives one line with the number of files that are no images.

    Raises:
        UsageError, ModelFileError, MissingCapabilityError: as `prepare_model` does.
    """
    target, options = Path(folder), options or PackageOptions()
    require_utf8(target)
    read = (model, options.onnx, options.plugin, options.license, *(options.images or ()))
    refuse_inputs_inside(target, [Path(file) for file in read if file is not None])
    prepared = prepare_model(Path(model), options, announce)
    manifest = _manifest(prepared, options)
    with new_folder(
        target, force=options.force, known_by=MANIFEST_NAME, foreign=foreign_file
    ) as fresh:
        _write_contents(fresh, prepared, manifest, options)
        files = tuple(
            (file.relative_to(fresh).as_posix(), file.stat().st_size)
            for file in sorted(fresh.rglob("*"))
            if file.is_file()
        )
    return PackagedBundle(target, manifest, prepared.golden.source, files)


def _manifest(prepared: ModelToPackage, options: PackageOptions) -> BundleManifest:
    export = prepared.export
    artifacts = [_onnx_artifact(prepared.onnx, export)]
    if options.runtime == "openvino":
        artifacts.insert(0, in_openvino(artifacts[0], options.precision))
    if prepared.engine is not None:
        artifacts.insert(0, _engine_artifact(prepared.path, prepared.engine, options.plugin))
    return BundleManifest(
        model=export.model.backbone,
        embedding_dim=int(prepared.embeddings.shape[1]),
        preprocessing=prepared.spec,
        artifacts=tuple(artifacts),
        golden=FILES,
        license=export.provenance.get("license"),
        packaged_by=__version__,
    )


def _write_contents(
    folder: Path, prepared: ModelToPackage, manifest: BundleManifest, options: PackageOptions
) -> None:
    """Fill a folder with the bundle's files, and give them the same modes on every machine."""
    export, source = prepared.export, prepared.golden.source
    for file, name in _copies(prepared, options.plugin):
        copy_file(file, folder / name)
    write_golden(folder, prepared.golden, prepared.embeddings)
    write_text(folder / MANIFEST_NAME, manifest.to_json() + "\n")
    write_text(folder / "README.md", readme_text(manifest, export, prepared.engine, source))
    if options.license is None:
        write_text(folder / "LICENSE", licence_text(export))
    else:
        copy_file(options.license, folder / "LICENSE")
    write_sums(folder)
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)


def _engine_of(path: Path, options: PackageOptions) -> EngineManifest | None:
    """Check the options against the model; return an engine's manifest, or None for ONNX."""
    kind = require_kind(path, ONNX, ENGINE, hint="export a checkpoint first")
    if kind is ONNX:
        for option, value in (("--onnx", options.onnx), ("--plugin", options.plugin)):
            if value is not None:
                raise UsageError(f"{option} is for engines, and {path} is not one; leave it out")
        return None
    if not path.is_file():
        raise ModelFileError(f"{path}: no such engine file")
    manifest = read_engine_sidecar(path)
    if manifest is None:
        raise ModelFileError(
            f"{path} has no manifest {sidecar_path(path).name} beside it; build it with gsp-deploy"
        )
    check_plan(manifest, path)
    if manifest.plugin is not None and not manifest.plugin.inside:
        if options.plugin is None:
            raise UsageError(f"{path} needs the plugin {manifest.plugin.library}; pass --plugin")
        if sha256_of(options.plugin) != manifest.plugin.sha256:
            raise UsageError(f"{options.plugin} is not the plugin that {path} was built with")
    elif options.plugin is not None:
        raise UsageError(f"{path} needs no plugin beside it; leave --plugin out")
    return manifest


def _onnx_of(engine: Path, manifest: EngineManifest, options: PackageOptions) -> Path:
    if options.onnx is None:
        raise UsageError(
            f"{engine}: its golden embeddings come from its ONNX file; pass --onnx "
            f"{manifest.onnx_name}"
        )
    if not options.onnx.is_file():
        raise ModelFileError(f"{options.onnx}: no such model file")
    if identity(options.onnx) != manifest.onnx_sha256:
        raise UsageError(f"{engine} was not built from {options.onnx} (its SHA-256 differs)")
    return options.onnx


def _fixed_batch(shape: Sequence[int | str]) -> int | None:
    return shape[0] if isinstance(shape[0], int) else None


def _onnx_artifact(path: Path, export: ExportManifest) -> BundledArtifact:
    source = export.inputs[0]
    return BundledArtifact(
        runtime="onnxruntime",
        file=path.name,
        precision=export.precision,
        input=source,
        fixed_batch=_fixed_batch(source.shape),
        max_cosine_distance=allowed_distance(export.precision),
    )


def _engine_artifact(path: Path, engine: EngineManifest, plugin: Path | None) -> BundledArtifact:
    source, precision = engine.inputs[0], engine.precision.asked
    return BundledArtifact(
        runtime=engine.flavour,
        file=path.name,
        precision=precision,
        input=source,
        fixed_batch=_fixed_batch(source.shape),
        max_cosine_distance=allowed_distance(precision),
        tensorrt=engine.tensorrt_version,
        platform=engine.platform,
        compute_capabilities=engine.compute_capabilities,
        hardware_compatibility=engine.hardware_compatibility,
        version_compatible=engine.version_compatible,
        lean=engine.lean,
        plugin=None if plugin is None else plugin.name,
    )


def _copies(prepared: ModelToPackage, plugin: Path | None) -> Iterator[tuple[Path, str]]:
    """Yield each file to copy, and its name in the bundle."""
    onnx, model = prepared.onnx, prepared.path
    yield onnx, onnx.name
    if sidecar_path(onnx).is_file():
        yield sidecar_path(onnx), sidecar_path(onnx).name
    for file in weight_files(onnx):
        yield file, _free_name(file.relative_to(onnx.parent).as_posix(), onnx)
    if prepared.engine is not None:
        yield model, model.name
        yield sidecar_path(model), sidecar_path(model).name
    if plugin is not None:
        yield plugin, plugin.name


def _free_name(name: str, model: Path) -> str:
    """Return the name of the graph's weight file, unless the bundle uses that name itself."""
    taken = (MANIFEST_NAME, SUMS_NAME, "README.md", "LICENSE", sidecar_path(model).name)
    if name in (*taken, *astuple(FILES)):
        raise UsageError(
            f"{model} keeps its weights in {name}, but a bundle uses that name for its own file; "
            "export the model again"
        )
    return name

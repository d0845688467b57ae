"""Read and write the manifest of a plan, `<engine>.json`: its source, precision and targets.

The plan itself stays as TensorRT wrote it, so that trtexec and C++ can load it directly.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from gsp_deploy.artifact import (
    ExportManifest,
    SolverCertificate,
    TensorSpec,
    sidecar_path,
    sidecar_text,
)
from gsp_deploy.base.choices import Flavour, HardwareCompatibility
from gsp_deploy.base.files import sha256_of
from gsp_deploy.base.schema import DocumentFormat, from_fields
from gsp_deploy.config import PreprocessingSpec
from gsp_deploy.errors import ConfigError, ModelFileError, brief

FORMAT = DocumentFormat(
    "engine_format",
    1,
    "an engine's manifest",
    "the engine's manifest",
    "build the engine again with this version",
)
FLAVOURS: tuple[str, ...] = get_args(Flavour)

_CAPABILITY = re.compile(r"\d{1,2}\.\d")
_HASH = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class ShapeRange:
    """The shapes that one input may have under one profile, batch first."""

    min: tuple[int, ...]
    opt: tuple[int, ...]
    max: tuple[int, ...]

    def __post_init__(self) -> None:
        for name in ("min", "opt", "max"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if not len(self.min) == len(self.opt) == len(self.max):
            raise ConfigError(f"min, opt and max must be of one rank, got {self}")
        for low, best, high in zip(self.min, self.opt, self.max, strict=True):
            if not 0 < low <= best <= high:
                raise ConfigError(f"expected 0 < min <= opt <= max in every size, got {self}")

    def holds(self, shape: tuple[int, ...]) -> bool:
        """Whether a shape is within the range."""
        return len(shape) == len(self.min) and all(
            low <= size <= high for low, size, high in zip(self.min, shape, self.max, strict=True)
        )


@dataclass(frozen=True)
class PluginRecord:
    """The plugin that a plan needs; load it before the plan.

    Attributes:
        name, namespace, version: as TensorRT registers them.
        library: name of the shared object, without its folder.
        sha256: hash of the shared object that the plan was built with.
        abi: version of the agreement between plan and plugin (`gsp_plugin_abi` of the library).
        inside: the plan contains the shared object and loads it itself.
    """

    name: str
    namespace: str
    version: str
    library: str
    sha256: str
    abi: int
    inside: bool = False


@dataclass(frozen=True)
class PrecisionSummary:
    """The plan's element types, as found in the parsed network or in the built engine.

    Attributes:
        asked: `fp32`, `fp16`, `bf16` or `int8`; or what the ONNX file declares.
        verified_on: `network`, or `engine` if the built engine could be inspected too.
        layers: the number of layers by the element type of their result.
        kept_in_float32: layers with weights that compute in float32 although `asked` is lower,
            such as the cost in the pooling head.
    """

    asked: str
    verified_on: Literal["network", "engine"]
    layers: Mapping[str, int]
    kept_in_float32: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "kept_in_float32", tuple(self.kept_in_float32))


@dataclass(frozen=True)
class EngineManifest:
    """Everything that you need to know to use a plan.

    Attributes:
        plan_sha256, plan_bytes: the plan file.
        onnx_name, onnx_sha256: the ONNX file that it was built from, and its `identity`.
        flavour, tensorrt_version: the TensorRT that built it and can run it.
        cuda_version: of CUDA's runtime, or the one TensorRT was built for; None if unknown.
        platform: such as `linux x86_64`.
        device: name of the GPU that it was built on; None if it was built without one.
        compute_capabilities: what it was built for, such as `8.6`.
        hardware_compatibility: `none`, `ampere+` or `same-capability`.
        version_compatible: later versions of TensorRT can run it.
        lean: version compatible, and the plan does not contain the lean runtime of its version:
            that runtime, or a later one, must be installed where the plan runs.
        profiles: ranges of shapes by input, one mapping per profile. An engine without open
            sizes has one profile, and its three shapes are the same.
        inputs, outputs: tensors of the plan, open sizes as words.
        layers: the number of layers in the parsed network.
        precision: the element types that it computes in.
        plugin: the plugin that it needs, or None.
        export: the manifest of the ONNX file; None if gsp-deploy did not export it.
        options: the build's settings, by the names of `BuildOptions`.
        build_seconds: time of the build, without parsing.
        peak_memory_bytes: the most memory that the building process held.
        notes: events of the build, such as a timing cache that was set aside.
    """

    plan_sha256: str
    plan_bytes: int
    onnx_name: str
    onnx_sha256: str
    flavour: Flavour
    tensorrt_version: str
    cuda_version: str | None
    platform: str
    device: str | None
    compute_capabilities: tuple[str, ...]
    hardware_compatibility: HardwareCompatibility
    version_compatible: bool
    profiles: tuple[Mapping[str, ShapeRange], ...]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    layers: int
    precision: PrecisionSummary
    plugin: PluginRecord | None
    export: ExportManifest | None
    lean: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)
    build_seconds: float = 0.0
    peak_memory_bytes: int = 0
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("compute_capabilities", "profiles", "inputs", "outputs", "notes"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if self.flavour not in FLAVOURS:
            raise ConfigError(f"flavour must be one of {FLAVOURS}, got {brief(self.flavour)}")
        if not self.profiles or not self.inputs or not self.outputs:
            raise ConfigError("an engine has at least one profile, input and output")
        if self.lean and not self.version_compatible:
            raise ConfigError("a lean engine is version compatible")
        for text in self.compute_capabilities:
            if not isinstance(text, str) or not _CAPABILITY.fullmatch(text):
                raise ConfigError(f"expected compute capabilities such as 8.6, got {brief(text)}")
        for text in (self.plan_sha256, self.onnx_sha256):
            if not isinstance(text, str) or not _HASH.fullmatch(text):
                raise ConfigError(f"expected a SHA-256 in hexadecimal, got {brief(text)}")

    @property
    def contains_host_code(self) -> bool:
        """Whether loading the plan runs machine code that it contains: load it only if you trust
        its source.
        """
        return self.version_compatible and not self.lean

    @property
    def preprocessing(self) -> PreprocessingSpec | None:
        """How an image file becomes the input; None if the ONNX file does not say."""
        return None if self.export is None else self.export.preprocessing

    @property
    def includes_preprocessing(self) -> bool:
        """The plan takes uint8 `(B, H, W, 3)` and normalises it itself."""
        return self.export is not None and self.export.includes_preprocessing

    @property
    def certificate(self) -> SolverCertificate | None:
        """The certificate of the solver, from the ONNX file."""
        return None if self.export is None else self.export.certificate

    def to_json(self) -> str:
        """Return the manifest as indented JSON with sorted keys."""
        export = None if self.export is None else json.loads(self.export.to_json())
        return FORMAT.to_text({**dataclasses.asdict(self), "export": export})

    @classmethod
    def from_json(cls, text: str, source: str | os.PathLike[str]) -> EngineManifest:
        """Parse what `to_json` wrote.

        Raises:
            ModelFileError: the text is not an engine's manifest of this format; `source` names it.
        """
        return FORMAT.from_text(
            text, source, lambda data: from_fields(cls, _with_export(data, source))
        )


def read_engine_sidecar(engine: str | os.PathLike[str]) -> EngineManifest | None:
    """Return the manifest beside a plan, or None if there is none.

    Raises:
        ModelFileError: it is damaged.
    """
    text = sidecar_text(engine, "the engine's manifest")
    return None if text is None else EngineManifest.from_json(text, sidecar_path(engine))


def read_checked_engine(engine: Path) -> EngineManifest | None:
    """Return the manifest beside a plan after a check against the plan; None if there is none.

    Raises:
        ModelFileError: the plan is missing, or is not the file that its manifest describes.
    """
    if not engine.is_file():
        raise ModelFileError(f"{engine}: no such engine file")
    manifest = read_engine_sidecar(engine)
    if manifest is not None:
        check_plan(manifest, engine)
    return manifest


def check_plan(manifest: EngineManifest, engine: str | os.PathLike[str]) -> None:
    """Raise `ModelFileError` if the plan is not the file that its manifest describes."""
    path = Path(engine)
    if not path.is_file():
        raise ModelFileError(f"{path}: no such engine file")
    size = path.stat().st_size
    if size != manifest.plan_bytes:
        raise ModelFileError(
            f"{path}: {size:,} bytes, but its manifest says {manifest.plan_bytes:,}; copy "
            "engine and manifest again, together"
        )
    if sha256_of(path) != manifest.plan_sha256:
        raise ModelFileError(
            f"{path}: its hash is not the manifest's; copy engine and manifest again, together"
        )


def _with_export(data: Mapping[str, Any], source: str | os.PathLike[str]) -> dict[str, Any]:
    """Parse the ONNX file's manifest, which is a separate document inside this one."""
    export = data.get("export")
    if export is None:
        return dict(data)
    return {**data, "export": ExportManifest.from_json(json.dumps(export), source)}

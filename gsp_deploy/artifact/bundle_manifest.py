"""Read and write `bundle.json`, the manifest of a bundle, which Python and C++ both read."""

from __future__ import annotations

import dataclasses
import errno
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from gsp_deploy.artifact import TensorSpec
from gsp_deploy.artifact.engine_manifest import HardwareCompatibility
from gsp_deploy.artifact.kind import BUNDLE_MARK
from gsp_deploy.base.names import is_inside
from gsp_deploy.base.schema import DocumentFormat, from_fields
from gsp_deploy.base.scratch import settle
from gsp_deploy.config import PreprocessingSpec
from gsp_deploy.errors import ConfigError, ModelFileError, brief
from gsp_deploy.precision import FLOAT_WORDS, FloatPrecisionWord

FORMAT = DocumentFormat(
    "format",
    1,
    "a bundle",
    "the bundle's manifest",
    "package the model again with this version",
)
MANIFEST_NAME = BUNDLE_MARK

BundleRuntime = Literal["onnxruntime", "openvino", "tensorrt", "tensorrt-rtx"]


@dataclass(frozen=True)
class BundledArtifact:
    """One form of the model, and its largest allowed distance to the golden embeddings.

    Attributes:
        runtime: the runtime that runs it.
        file: its name within the bundle; its own manifest is `<file>.json`.
        precision: `fp32`, `fp16`, `bf16` or `int8`.
        input: the graph's input.
        fixed_batch: the only batch size that it takes; None if the batch size is open.
        max_cosine_distance: the largest 1 - cos to the golden embedding that passes.
        tensorrt, platform, compute_capabilities, hardware_compatibility, version_compatible: of an
            engine, what built it and what it was built for; None, empty or False for ONNX.
        lean: of a version-compatible engine, that it does not contain the lean runtime.
        plugin: the shared object within the bundle that an engine needs, or None.
        computes: with OpenVINO, the precision that it must compute floats in; None leaves it to
            the file and the processor.
    """

    runtime: BundleRuntime
    file: str
    precision: str
    input: TensorSpec
    fixed_batch: int | None
    max_cosine_distance: float
    tensorrt: str | None = None
    platform: str | None = None
    compute_capabilities: tuple[str, ...] = ()
    hardware_compatibility: HardwareCompatibility = "none"
    version_compatible: bool = False
    lean: bool = False
    plugin: str | None = None
    computes: FloatPrecisionWord | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "compute_capabilities", tuple(self.compute_capabilities))
        if self.runtime not in get_args(BundleRuntime):
            raise ConfigError(
                f"runtime must be one of {get_args(BundleRuntime)}, got {brief(self.runtime)}"
            )
        if self.computes not in (None, *FLOAT_WORDS):
            raise ConfigError(
                f"computes must be one of {', '.join(FLOAT_WORDS)}, got {brief(self.computes)}"
            )
        for name in (self.file, self.plugin):
            if name is not None:
                check_inside(name)
        if any(isinstance(size, int) and size < 0 for size in self.input.shape):
            raise ConfigError(f"input sizes must be at least 0, got {self.input.shape}")
        if self.fixed_batch is not None and self.fixed_batch < 1:
            raise ConfigError(f"fixed_batch must be at least 1, got {self.fixed_batch}")
        if not 0 <= self.max_cosine_distance < math.inf:
            raise ConfigError(
                f"max_cosine_distance must be at least 0, got {self.max_cosine_distance}"
            )


@dataclass(frozen=True)
class Golden:
    """Files in the bundle with images, and the embeddings that the model gave when packaged.

    Attributes:
        images: uint8 `(n, H, W, 3)`, of the model's size.
        embeddings: float32 `(n, D)`, of the ONNX file in ONNX Runtime on a CPU.
        photograph: a PNG of another size; decoded and fitted, it is `images[0]`.
    """

    images: str
    embeddings: str
    photograph: str

    def __post_init__(self) -> None:
        for name in (self.images, self.embeddings, self.photograph):
            check_inside(name)


@dataclass(frozen=True)
class BundleManifest:
    """The contents of a bundle.

    Attributes:
        model: the backbone's name.
        embedding_dim: D.
        preprocessing: how an image becomes the network's input.
        artifacts: the forms of the model; the first is preferred, the others are fallbacks.
        golden: the images and embeddings that verify it.
        license: SPDX identifier of the weights, if the model names one.
        packaged_by: the version of gsp-deploy that packaged it.
    """

    model: str
    embedding_dim: int
    preprocessing: PreprocessingSpec
    artifacts: tuple[BundledArtifact, ...]
    golden: Golden
    license: str | None
    packaged_by: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "artifacts", tuple(self.artifacts))
        if not self.artifacts:
            raise ConfigError("a bundle has at least one artifact")
        if self.embedding_dim < 1:
            raise ConfigError(f"embedding_dim must be at least 1, got {self.embedding_dim}")

    def to_json(self) -> str:
        """Return the manifest as indented JSON with sorted keys."""
        return FORMAT.to_text(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str, source: str | os.PathLike[str]) -> BundleManifest:
        """Parse what `to_json` wrote.

        Raises:
            ModelFileError: the text is not a bundle's manifest of this format.
        """
        return FORMAT.from_text(text, source, lambda data: from_fields(cls, data))


def read_bundle_manifest(folder: str | os.PathLike[str]) -> BundleManifest:
    """Read `bundle.json`.

    Raises:
        ModelFileError: it is missing or damaged.
    """
    path = Path(folder) / MANIFEST_NAME
    settle(Path(folder))
    try:
        text = read_own_text(Path(folder), MANIFEST_NAME)
    except (OSError, UnicodeDecodeError) as error:
        raise ModelFileError(
            f"{folder}: not a bundle, since {MANIFEST_NAME} cannot be read; "
            "make one with gsp-deploy package"
        ) from error
    return BundleManifest.from_json(text, path)


def check_inside(name: object) -> None:
    """Raise `ModelFileError` for a name that leads outside the bundle."""
    if not is_inside(name):
        raise ModelFileError(f"expected the name of a file within the bundle, got {brief(name)}")


def is_own_file(path: Path) -> bool:
    """Whether a path is a regular file, or a link to a regular file that is not empty.

    Files that the system generates on reading, such as those below /proc, have size 0.
    """
    return path.is_file() and not (path.is_symlink() and path.stat().st_size == 0)


def read_own_text(folder: Path, name: str) -> str:
    """Return the text of a file in the bundle; devices and pipes are not opened.

    Raises:
        OSError, UnicodeDecodeError: there is no such file, or it is not text.
    """
    path = folder / name
    if not is_own_file(path):
        raise FileNotFoundError(errno.ENOENT, "no file of the bundle's own", str(path))
    return path.read_text(encoding="utf-8")

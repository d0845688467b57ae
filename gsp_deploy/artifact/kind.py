"""The table of model kinds, one row each: ONNX file, engine, checkpoint, bundle.

To add a runtime, add a `Runtime` to the kind of model that it runs, and the module that its opener
names. The rows name modules by strings, which are imported on first use. So this table needs no
torch, onnx or TensorRT.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

from gsp_deploy.base.file_names import require_utf8
from gsp_deploy.base.platforms import install_line
from gsp_deploy.base.scratch import settle
from gsp_deploy.errors import MissingCapabilityError, UsageError

# A folder that contains this file is a bundle.
BUNDLE_MARK = "bundle.json"


@dataclass(frozen=True)
class Runtime:
    """A runtime that runs one kind of model.

    Attributes:
        word: its name in options; None if the kind has only this one.
        title: its name in words.
        extra: the pip extra that you need to run it: `gsp-deploy[EXTRA]`.
        opener: `module:function`, from a path and `SessionOptions` to an `EmbeddingSession`.
    """

    word: str | None
    title: str
    extra: str
    opener: str


@dataclass(frozen=True)
class Kind:
    """The names of one kind of model, and the functions that read and open it.

    Attributes:
        name: `onnx`, `engine`, `checkpoint` or `bundle`.
        words: its name in errors, with its article.
        suffixes: the endings of its file names; none for a folder.
        runtimes: the runtimes that can run it; the first is the default.
        device: its default device: `cpu` or `cuda`.
        reader: `module:function`, from a path to its manifest, or None if it has none.
        document: `module:class` of the manifest beside it, which `from_json` of the class parses;
            None if the manifest is inside.
        mark: a folder with this file in it is of this kind; None for files.
    """

    name: str
    words: str
    suffixes: tuple[str, ...]
    runtimes: tuple[Runtime, ...]
    device: str
    reader: str
    document: str | None = None
    mark: str | None = None

    def owns(self, path: str | os.PathLike[str]) -> bool:
        """Whether a path is of this kind: by its suffix, or by the mark inside a folder."""
        if self.mark is not None:
            return (Path(path) / self.mark).is_file()
        return Path(path).suffix in self.suffixes

    def open(self, path: Path, options: Any) -> Any:
        """Open a session on a model of this kind.

        Raises:
            UsageError: it runs only on a GPU, and `options.device` is `cpu`; or it does not run in
                `options.runtime`; or its path is not UTF-8.
            MissingCapabilityError: a package that its runtime needs is not installed.
        """
        if self.device == "cuda" and options.device == "cpu":
            raise UsageError(f"{path}: {self.words} runs on a GPU, not on cpu; leave out device")
        runtime = self.runtime_named(options.runtime, path)
        require_utf8(path)
        settle(path)
        try:
            return _named(runtime.opener)(path, options)
        except ModuleNotFoundError as error:
            raise MissingCapabilityError(
                f"{path}: needs the package {error.name!r}, which is not installed: "
                f"{install_line(runtime.extra)}"
            ) from error

    def runtime_named(self, word: str | None, path: str | os.PathLike[str]) -> Runtime:
        """Return the runtime of this name; None is the default.

        Raises:
            UsageError: models of this kind do not run in it; the error names `path`.
        """
        if word is None:
            return self.runtimes[0]
        for runtime in self.runtimes:
            if runtime.word == word:
                return runtime
        raise UsageError(
            f"{os.fspath(path)}: {self.words} runs in {self.runtimes[0].title}, not in {word}; "
            "leave out the runtime"
        )

    def prepare(self, runtime: str | None = None) -> None:
        """Import the modules that open a model of this kind, without opening one."""
        _named(self.runtime_named(runtime, self.name).opener)

    def read_manifest(self, path: Path) -> Any:
        """Return the manifest of a model of this kind, or None if it has none.

        Raises:
            ModelFileError, CheckpointError: the model is missing, or it or its manifest is damaged.
        """
        settle(path)
        return _named(self.reader)(path)

    def parse_manifest(self, text: str, source: str | os.PathLike[str]) -> Any:
        """Parse the JSON beside a model as its manifest; errors call it `source`.

        Raises:
            ModelFileError: the text is not such a manifest.
        """
        assert self.document is not None  # callers use this only for kinds with a file beside them
        return _named(self.document).from_json(text, source)


ONNX_RUNTIME = Runtime(
    word="onnxruntime",
    title="ONNX Runtime",
    extra="cpu",
    opener="gsp_deploy.runtime.onnx_session:OnnxSession",
)
OPENVINO = Runtime(
    word="openvino",
    title="OpenVINO",
    extra="openvino",
    opener="gsp_deploy.runtime.openvino_session:OpenVinoSession",
)
ONNX = Kind(
    name="onnx",
    words="an ONNX model",
    suffixes=(".onnx",),
    runtimes=(ONNX_RUNTIME, OPENVINO),
    device="cpu",
    reader="gsp_deploy.artifact.onnx_manifest:read_onnx_manifest",
    document="gsp_deploy.artifact.export_manifest:ExportManifest",
)
ENGINE = Kind(
    name="engine",
    words="an engine",
    suffixes=(".engine", ".plan", ".trt"),
    runtimes=(Runtime(None, "TensorRT", "gpu", "gsp_deploy.runtime.engine_loading:open_engine"),),
    device="cuda",
    reader="gsp_deploy.artifact.engine_manifest:read_checked_engine",
    document="gsp_deploy.artifact.engine_manifest:EngineManifest",
)
CHECKPOINT = Kind(
    name="checkpoint",
    words="a checkpoint",
    suffixes=(".safetensors", ".pt", ".pth"),
    runtimes=(Runtime(None, "PyTorch", "train", "gsp_deploy.runtime.torch_session:TorchSession"),),
    device="cpu",
    reader="gsp_deploy.checkpoint.reading:read_metadata",
)
# A bundle opens the first model in it that fits this machine, and its ONNX model in these runtimes.
_OPEN_BUNDLE = "gsp_deploy.bundle.opening:open_bundle_with"
BUNDLE = Kind(
    name="bundle",
    words="a bundle",
    suffixes=(),
    runtimes=tuple(replace(runtime, opener=_OPEN_BUNDLE) for runtime in ONNX.runtimes),
    device="cpu",
    reader="gsp_deploy.artifact.bundle_manifest:read_bundle_manifest",
    mark=BUNDLE_MARK,
)
KINDS = (ONNX, ENGINE, CHECKPOINT, BUNDLE)


def kind_of(path: str | os.PathLike[str]) -> Kind | None:
    """Return the kind of model that a path names, or None; the file need not exist.

    >>> kind_of("model.onnx").name
    'onnx'
    """
    return next((kind for kind in KINDS if kind.owns(path)), None)


def require_kind(
    path: str | os.PathLike[str],
    *kinds: Kind,
    what: str = "a model",
    hint: str = "",
) -> Kind:
    """Return the kind of model that a path names, out of the accepted kinds.

    Args:
        path: the file or folder.
        kinds: the accepted kinds; without any, all are accepted.
        what: what the error says was expected, with its article.
        hint: what the error says to do instead.

    Raises:
        UsageError: it is of no accepted kind.
    """
    wanted = kinds or KINDS
    found = kind_of(path)
    if found in wanted:
        return found  # type: ignore[return-value]
    remedy = f"; {hint}" if hint else ""
    raise UsageError(
        f"{os.fspath(path)}: expected {what} ending in {endings(*wanted)}, "
        f"got {Path(path).suffix or 'no suffix'}{remedy}"
    )


def endings(*kinds: Kind) -> str:
    """Return the suffixes of some kinds in words, such as `.onnx, .engine, .plan, .trt`."""
    return ", ".join(suffix for kind in kinds for suffix in kind.suffixes)


def _named(reference: str) -> Any:
    """Return what `module:name` refers to."""
    module, name = reference.split(":")
    return getattr(import_module(module), name)

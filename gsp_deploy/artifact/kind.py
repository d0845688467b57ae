"""The kinds of model that there are: one row each, which every reader of files asks.

A new runtime is one row in `KINDS` and the module that its opener names. Modules are named by
strings and imported on first use, so that this table needs no torch, no onnx and no TensorRT.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from gsp_deploy.base.platforms import install_line
from gsp_deploy.base.scratch import settle
from gsp_deploy.errors import MissingCapabilityError, UsageError

# The file by which a folder is known to be a bundle.
BUNDLE_MARK = "bundle.json"


@dataclass(frozen=True)
class Kind:
    """What one kind of model is called, and which functions read and open it.

    Attributes:
        name: `onnx`, `engine`, `checkpoint` or `bundle`.
        words: what an error calls it, with its article.
        suffixes: how its file names end; none for a folder.
        runtime: what runs it, in words.
        extra: what pip installs to run it: `gsp-deploy[EXTRA]`.
        device: where it runs if nothing else is said: `cpu` or `cuda`.
        reader: `module:function`, from a path to its manifest, or None where it has none.
        opener: `module:function`, from a path and `SessionOptions` to an `EmbeddingSession`.
        document: `module:class` of the manifest beside it, whose `from_json` parses it; None
            where the manifest is inside.
        mark: the file inside a folder that makes it one of this kind; None for files.
    """

    name: str
    words: str
    suffixes: tuple[str, ...]
    runtime: str
    extra: str
    device: str
    reader: str
    opener: str
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
            UsageError: it runs on a GPU alone, and `options.device` is `cpu`.
            MissingCapabilityError: a package that its runtime needs is not installed.
        """
        if self.device == "cuda" and options.device == "cpu":
            raise UsageError(f"{path}: {self.words} runs on a GPU, not on cpu; leave out device")
        settle(path)
        try:
            return _named(self.opener)(path, options)
        except ModuleNotFoundError as error:
            raise MissingCapabilityError(
                f"{path}: needs the package {error.name!r}, which is not installed: "
                f"{install_line(self.extra)}"
            ) from error

    def prepare(self) -> None:
        """Import what opening a model of this kind needs, without opening one."""
        _named(self.opener)

    def read_manifest(self, path: Path) -> Any:
        """Return the manifest of a model of this kind, or None where it has none.

        Raises:
            ModelFileError, CheckpointError: the model is missing, or it or its manifest is damaged.
        """
        settle(path)
        return _named(self.reader)(path)

    def parse_manifest(self, text: str, source: str | os.PathLike[str]) -> Any:
        """Return the manifest that the JSON beside a model holds; `source` names it in errors.

        Raises:
            ModelFileError: the text is not such a manifest.
        """
        assert self.document is not None  # asked only of kinds that have a file beside them
        return _named(self.document).from_json(text, source)


ONNX = Kind(
    name="onnx",
    words="an ONNX model",
    suffixes=(".onnx",),
    runtime="ONNX Runtime",
    extra="cpu",
    device="cpu",
    reader="gsp_deploy.artifact.onnx_manifest:read_onnx_manifest",
    opener="gsp_deploy.runtime.onnx_session:OnnxSession",
    document="gsp_deploy.artifact.export_manifest:ExportManifest",
)
ENGINE = Kind(
    name="engine",
    words="an engine",
    suffixes=(".engine", ".plan", ".trt"),
    runtime="TensorRT",
    extra="gpu",
    device="cuda",
    reader="gsp_deploy.artifact.engine_manifest:read_checked_engine",
    opener="gsp_deploy.runtime.engine_loading:open_engine",
    document="gsp_deploy.artifact.engine_manifest:EngineManifest",
)
CHECKPOINT = Kind(
    name="checkpoint",
    words="a checkpoint",
    suffixes=(".safetensors", ".pt", ".pth"),
    runtime="PyTorch",
    extra="train",
    device="cpu",
    reader="gsp_deploy.checkpoint.reading:read_metadata",
    opener="gsp_deploy.runtime.torch_session:TorchSession",
)
BUNDLE = Kind(
    name="bundle",
    words="a bundle",
    suffixes=(),
    runtime="the runtime of the first model in it that fits this machine",
    extra="cpu",
    device="cpu",
    reader="gsp_deploy.artifact.bundle_manifest:read_bundle_manifest",
    opener="gsp_deploy.bundle.opening:open_bundle_with",
    mark=BUNDLE_MARK,
)
KINDS = (ONNX, ENGINE, CHECKPOINT, BUNDLE)


def kind_of(path: str | os.PathLike[str]) -> Kind | None:
    """Return which kind of model a path names, or None; a file need not exist.

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
    """Return which of the kinds a path names.

    Args:
        path: the file or folder.
        kinds: those that will do; none given means all.
        what: what an error asks for, with its article.
        hint: what to do instead, for the error.

    Raises:
        UsageError: it is of none of them.
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

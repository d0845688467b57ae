"""Open the model in a bundle on the target machine."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path

from gsp_deploy.artifact.bundle_manifest import (
    BundledArtifact,
    BundleManifest,
    read_bundle_manifest,
)
from gsp_deploy.bundle.artifacts import artifacts_for
from gsp_deploy.bundle.files import misfit
from gsp_deploy.errors import GateError, MissingCapabilityError, UsageError
from gsp_deploy.runtime import EmbeddingSession, SessionOptions, open_session
from gsp_deploy.runtime.session import RunOptions


@dataclass(frozen=True)
class BundleOptions(RunOptions):
    """Options for opening a bundle; see `RunOptions` for the others.

    Without `runtime`, the bundle's first artifact runs in its own runtime.

    Attributes:
        device: `cpu`, `cuda` or `cuda:N`; None is the artifact's usual device.
        allow_fallback: if the first artifact does not fit this machine, use the next one.
    """

    device: str | None = None
    _: KW_ONLY
    allow_fallback: bool = False


@dataclass(frozen=True)
class Opened:
    """A session, the artifact that it runs, and why earlier artifacts did not fit, if any."""

    session: EmbeddingSession
    artifact: BundledArtifact
    fallback: str | None


def open_bundle(
    folder: str | os.PathLike[str], options: BundleOptions | None = None
) -> EmbeddingSession:
    """Check a bundle's hashes and open its model.

    Raises:
        ModelFileError: the folder is not a bundle, or is damaged.
        GateError: a file is not the one that was packaged.
        MissingCapabilityError: this machine lacks something that the first artifact needs, and
            fallback is not allowed or no other artifact fits.
    """
    manifest = read_bundle_manifest(folder)
    if found := misfit(Path(folder)):
        raise GateError(f"{folder}: {found}; copy the bundle again")
    return open_artifact(Path(folder), manifest, options or BundleOptions()).session


def open_bundle_with(
    folder: Path, options: SessionOptions, *, allow_fallback: bool = False
) -> EmbeddingSession:
    """Open a bundle with the options of any session; see `open_bundle`.

    Raises:
        UsageError: you give a provider, plugins, libraries of providers or session options; the
            bundle chooses those itself.
    """
    if any((options.provider, options.plugins, options.ep_libraries, options.session_config)):
        raise UsageError(
            f"{folder}: a bundle chooses its own provider, plugins and session options; leave them "
            "out"
        )
    chosen = BundleOptions(options.device, allow_fallback=allow_fallback, **options.running)
    return open_bundle(folder, chosen)


def open_artifact(folder: Path, manifest: BundleManifest, options: BundleOptions) -> Opened:
    """Open the first artifact that fits this machine; try later ones only with `allow_fallback`."""
    reasons: list[str] = []
    artifacts = artifacts_for(manifest, options.runtime, options.precision)
    for artifact in artifacts:
        try:
            return Opened(_open(folder, artifact, options), artifact, "; ".join(reasons) or None)
        except MissingCapabilityError as error:
            if not options.allow_fallback:
                raise _with_hint(error, artifacts, artifact) from error
            reasons.append(str(error))
    raise MissingCapabilityError("; ".join(reasons))


def _open(folder: Path, artifact: BundledArtifact, options: BundleOptions) -> EmbeddingSession:
    if artifact.runtime == "onnxruntime":
        return open_session(
            folder / artifact.file,
            options.device,
            threads=options.threads,
            max_batch=options.max_batch,
        )
    if artifact.runtime == "openvino":
        return open_session(
            folder / artifact.file,
            options.device,
            threads=options.threads,
            max_batch=options.max_batch,
            runtime="openvino",
            precision=artifact.computes,
            requests=options.requests,
            model_cache=options.model_cache,
        )
    return open_session(
        folder / artifact.file,
        # An engine needs a GPU, so the device `cpu` is for the fallback artifact.
        None if options.device == "cpu" else options.device,
        max_batch=options.max_batch,
        plugins=[] if artifact.plugin is None else [folder / artifact.plugin],
        allow_host_code=options.allow_host_code,
        cuda_graphs=options.cuda_graphs,
        cuda_api=options.cuda_api,
    )


def _with_hint(
    error: MissingCapabilityError,
    artifacts: Sequence[BundledArtifact],
    artifact: BundledArtifact,
) -> MissingCapabilityError:
    others = artifacts[artifacts.index(artifact) + 1 :]
    if not others:
        return error
    other = others[0]
    named = (
        f"runs {other.file} in ONNX Runtime too"
        if other.file == artifact.file
        else (f"contains {other.file}")
    )
    return MissingCapabilityError(
        f"{error}; the bundle also {named}, pass --allow-fallback to use it"
    )

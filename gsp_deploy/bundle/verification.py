"""Check that a bundle works on this machine as it did when it was packaged."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gsp_deploy.artifact.bundle_manifest import BundleManifest, read_bundle_manifest
from gsp_deploy.base.words import counted
from gsp_deploy.bundle.files import misfit
from gsp_deploy.bundle.golden import read_golden
from gsp_deploy.bundle.opening import BundleOptions, Opened, open_artifact
from gsp_deploy.errors import GateError, GspDeployError, brief
from gsp_deploy.images.preprocessing import load_image
from gsp_deploy.metrics import cosine_distances

# Rounding may change a pixel of the golden photograph by one step of 255.
ALLOWED_PIXEL_ERROR = 1


@dataclass(frozen=True)
class BundleCheck:
    """One check: its name, its result in words, and whether it passed."""

    name: str
    found: str
    passed: bool


@dataclass(frozen=True)
class BundleReport:
    """Result of verifying a bundle on this machine.

    Attributes:
        bundle: the folder.
        checks: the checks in order; if a file's hash is wrong, nothing in the bundle is loaded.
        artifact: the file that ran, or None.
        runtime: the runtime and device that ran it.
        fallback: why the bundle's first artifact did not run, or None if it did.
    """

    bundle: Path
    checks: tuple[BundleCheck, ...]
    artifact: str | None = None
    runtime: str | None = None
    fallback: str | None = None

    @property
    def passed(self) -> bool:
        """Whether every check passed."""
        return all(check.passed for check in self.checks)

    def raise_on_failure(self) -> None:
        """Raise `GateError` with the first check that failed."""
        for check in self.checks:
            if not check.passed:
                raise GateError(f"{self.bundle}: {check.name}: {check.found}")

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON-able data."""
        return {**dataclasses.asdict(self), "bundle": str(self.bundle), "passed": self.passed}


def verify_bundle(
    folder: str | os.PathLike[str], options: BundleOptions | None = None
) -> BundleReport:
    """Check hashes, versions and device, pre-processing and the golden embeddings.

    Raises:
        ModelFileError: the folder is not a bundle.
        MissingCapabilityError: this machine lacks something that the bundle needs.
    """
    path, options = Path(folder), options or BundleOptions()
    manifest = read_bundle_manifest(path)
    if found := misfit(path):
        return BundleReport(path, (BundleCheck("files", found, False),))
    files = BundleCheck("files", "every hash is as packaged", True)
    opened = open_artifact(path, manifest, options)
    with opened.session:
        info = opened.session.info
        checks: tuple[BundleCheck, ...]
        if found := _misdescribed(manifest, opened):
            checks = (files, BundleCheck("manifest", found, False))
        else:
            checks = (files, _pixels(path, manifest), _embeddings(path, manifest, opened))
        return BundleReport(
            path, checks, opened.artifact.file, f"{info.runtime} {info.device}", opened.fallback
        )


def _misdescribed(manifest: BundleManifest, opened: Opened) -> str | None:
    """Return the first entry of the manifest that does not match the model, in words, or None."""
    info, artifact = opened.session.info, opened.artifact
    first = info.input.shape[0]
    said_and_found = (
        ("embedding_dim", manifest.embedding_dim, info.embedding_dim),
        ("precision", artifact.precision, info.precision),
        ("input", str(artifact.input), str(info.input)),
        ("fixed_batch", artifact.fixed_batch, first if isinstance(first, int) else None),
    )
    for name, said, found in said_and_found:
        if said != found:
            return f"{name} is {brief(said)} in the manifest, but {brief(found)} in the model"
    return None


def _pixels(folder: Path, manifest: BundleManifest) -> BundleCheck:
    images, _ = read_golden(folder, manifest.golden)
    try:
        fitted = load_image(folder / manifest.golden.photograph, manifest.preprocessing)
    except GspDeployError as error:
        return BundleCheck("pre-processing", str(error), False)
    if fitted.shape != images[0].shape:
        return BundleCheck("pre-processing", f"golden images are {images.shape[1:]}", False)
    worst = int(np.abs(fitted.astype(int) - images[0].astype(int)).max())
    words = f"golden photograph off by {worst} of 255, allowed is {ALLOWED_PIXEL_ERROR}"
    return BundleCheck("pre-processing", words, worst <= ALLOWED_PIXEL_ERROR)


def _embeddings(folder: Path, manifest: BundleManifest, opened: Opened) -> BundleCheck:
    images, golden = read_golden(folder, manifest.golden)
    found = opened.session.embed(images)
    if found.shape != golden.shape:
        words = f"expected embeddings of shape {golden.shape}, got {found.shape}"
        return BundleCheck("golden embeddings", words, False)
    worst = float(cosine_distances(found, golden).max())
    allowed = opened.artifact.max_cosine_distance
    shown = counted(len(golden), "image")
    words = f"{shown}, worst cosine distance {worst:.1e}, allowed is {allowed:.0e}"
    return BundleCheck("golden embeddings", words, worst <= allowed)

"""Does a bundle work here as it did where it was packaged?"""

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

# Pixels of the golden photograph may differ by rounding alone.
ALLOWED_PIXEL_ERROR = 1


@dataclass(frozen=True)
class BundleCheck:
    """One thing that was checked: what was found, in words, and whether it passes."""

    name: str
    found: str
    passed: bool


@dataclass(frozen=True)
class BundleReport:
    """What was found of a bundle on this machine.

    Attributes:
        bundle: the folder.
        checks: in the order in which they were made; after a failure of the files nothing of the
            bundle is loaded.
        artifact: the file that was run, if one was.
        runtime: what ran it, and where.
        fallback: why the bundle's first artifact was not run, if so.
    """

    bundle: Path
    checks: tuple[BundleCheck, ...]
    artifact: str | None = None
    runtime: str | None = None
    fallback: str | None = None

    @property
    def passed(self) -> bool:
        """Whether everything fits."""
        return all(check.passed for check in self.checks)

    def raise_on_failure(self) -> None:
        """Raise `GateError` naming the first thing that does not fit."""
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
        ModelFileError: it is no bundle.
        MissingCapabilityError: this machine lacks what the bundle needs.
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
    """Return the first thing that the manifest says of the model and that is not so, or None."""
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
            return f"{name} is {brief(said)} in the manifest, and the model has {brief(found)}"
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
        words = f"the model gives {found.shape}, golden are {golden.shape}"
        return BundleCheck("golden embeddings", words, False)
    worst = float(cosine_distances(found, golden).max())
    allowed = opened.artifact.max_cosine_distance
    shown = counted(len(golden), "image")
    words = f"{shown}, worst cosine distance {worst:.1e}, allowed is {allowed:.0e}"
    return BundleCheck("golden embeddings", words, worst <= allowed)

"""A bundle in a download cache, with a link to a blob for every file, opens."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from gsp_deploy.bundle import open_bundle, verify_bundle
from gsp_deploy.bundle.packaging import package_model
from gsp_deploy.runtime import open_session


def into_a_cache(folder: Path, cache: Path) -> Path:
    """Move files to `cache/blobs`, link to them from `cache/snapshots/rev`, and return that."""
    blobs, snapshot = cache / "blobs", cache / "snapshots" / "rev"
    blobs.mkdir(parents=True)
    for index, path in enumerate(sorted(p for p in folder.rglob("*") if p.is_file())):
        link = snapshot / path.relative_to(folder)
        link.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(path, blobs / str(index))
        link.symlink_to(os.path.relpath(blobs / str(index), link.parent))
    return snapshot


@pytest.mark.parametrize("absolute", [False, True])
def test_it_opens_and_verifies(absolute: bool, bundle: Path, tmp_path: Path) -> None:
    snapshot = into_a_cache(bundle, tmp_path / "cache")
    if absolute:
        for link in snapshot.rglob("*"):
            if link.is_symlink():
                target = link.resolve()
                link.unlink()
                link.symlink_to(target)
    verify_bundle(snapshot).raise_on_failure()
    with open_bundle(snapshot) as ours, open_session(snapshot) as same:
        assert ours.info.path == same.info.path == snapshot / "tiny.onnx"


def test_a_blob_that_was_changed_is_found(bundle: Path, tmp_path: Path) -> None:
    snapshot = into_a_cache(bundle, tmp_path / "cache")
    (snapshot / "tiny.onnx").write_bytes(b"other")
    (check,) = verify_bundle(snapshot).checks
    assert check.found == "tiny.onnx is not the file that was packaged (its SHA-256 differs)"


def test_a_bundle_made_of_links_holds_files(tiny_export: str, tmp_path: Path) -> None:
    source = tmp_path / "model"
    source.mkdir()
    for path in (Path(tiny_export), Path(tiny_export + ".json")):
        shutil.copy(path, source)
    snapshot = into_a_cache(source, tmp_path / "cache")
    made = package_model(snapshot / "tiny.onnx", tmp_path / "packaged")
    assert not [path for path in made.folder.rglob("*") if path.is_symlink()]
    verify_bundle(made.folder).raise_on_failure()

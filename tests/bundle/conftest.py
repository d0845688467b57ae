"""Bundles of the tiny model, to inspect and to change."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from gsp_deploy.bundle.packaging import PackagedBundle, package_model


@pytest.fixture(scope="session")
def packaged(tiny_export: str, tmp_path_factory: pytest.TempPathFactory) -> PackagedBundle:
    """The tiny export as `package` makes it when nothing is asked for."""
    return package_model(tiny_export, tmp_path_factory.mktemp("packaged") / "bundle")


@pytest.fixture
def bundle(packaged: PackagedBundle, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(packaged.folder, tmp_path / "bundle"))

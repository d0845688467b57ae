"""The images that int8 is calibrated and judged on, from folders and from data sets."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from gsp_deploy.export import calibration_from_files, quantisation_images
from gsp_deploy.export.quantisation import images as images_module

from .gratings import CLASSES, EACH, LABELS, SPEC, gratings


def test_few_images_and_broken_ones_are_said(gratings_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(gratings_folder, tmp_path / "images")
    (tmp_path / "images" / "class_0" / "broken.png").write_bytes(b"not an image")
    found = quantisation_images(tmp_path / "images", SPEC)
    assert len(found.calibration.inputs) == CLASSES * EACH
    assert any("36 calibration images: fewer than 100" in note for note in found.notes)
    assert len([note for note in found.notes if "broken.png" in note]) == 1
    assert found.labels is not None
    np.testing.assert_array_equal(found.labels, LABELS)


def test_broken_images_are_said_for_every_precision(gratings_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(gratings_folder / "class_0", tmp_path / "images")
    (tmp_path / "images" / "broken.png").write_bytes(b"not an image")
    lines: list[str] = []
    calibration_from_files(tmp_path / "images", SPEC, announce=lines.append)
    (line,) = lines
    assert "left out: " in line
    assert "broken.png" in line


def test_validation_images_come_from_a_flat_folder_or_a_data_set(
    gratings_folder: Path, tmp_path: Path
) -> None:
    flat = tmp_path / "flat"
    flat.mkdir()
    for file in sorted((gratings_folder / "class_0").iterdir()):
        shutil.copy(file, flat)
    assert quantisation_images(gratings_folder, SPEC, str(flat)).labels is None
    of_set = quantisation_images(gratings_folder, SPEC, f"folder:{gratings_folder}")
    assert of_set.labels is not None
    assert len(of_set.labels) == CLASSES * EACH  # nobody trains here, so no half is kept back
    np.testing.assert_array_equal(of_set.validation.inputs, gratings())


def test_a_large_set_is_cut_down_to_whole_classes(
    gratings_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images_module, "MOST_VALIDATION_IMAGES", 3 * EACH)
    monkeypatch.setattr(images_module, "MOST_CALIBRATION_IMAGES", 9)
    found = quantisation_images(gratings_folder, SPEC)
    assert found.labels is not None
    assert np.unique(found.labels, return_counts=True)[1].tolist() == [EACH] * 3
    np.testing.assert_array_equal(found.calibration.inputs, gratings()[::4])

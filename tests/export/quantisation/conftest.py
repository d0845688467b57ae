"""A network in int8 that an outlier spoils, one that none does, and their images as files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from gsp_deploy.export import ExportOptions, export_onnx, quantisation_images
from gsp_deploy.export.assembly import Draft
from gsp_deploy.export.quantisation import range_cache, ranges

from .gratings import LABELS, SPEC, gratings, small_model


@pytest.fixture(scope="session")
def gratings_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The gratings as files, a folder a class."""
    root = tmp_path_factory.mktemp("gratings")
    for index, pixels in enumerate(gratings()):
        path = root / f"class_{LABELS[index]}" / f"{index:03d}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(pixels).save(path)
    return root


@pytest.fixture(scope="session")
def healthy() -> Draft:
    return Draft(small_model(sabotaged=False), ExportOptions(precision="int8"))


@pytest.fixture(scope="session")
def int8_export(gratings_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sabotaged model as float.onnx and int8.onnx, with pre-processing inside."""
    root = tmp_path_factory.mktemp("exported")
    model = small_model(sabotaged=True)
    common = {"include_preprocessing": True, "iterations": 6}
    export_onnx(model, root / "float.onnx", ExportOptions(**common))
    export_onnx(
        model,
        root / "int8.onnx",
        ExportOptions(precision="int8", max_drop=1.0, **common),
        quantisation=quantisation_images(gratings_folder, SPEC),
    )
    return root


@pytest.fixture
def calibrations(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Count how often images went through the network for their ranges."""
    calls = []
    original = range_cache.calibrate_ranges

    def counting(*arguments: object) -> ranges.Ranges:
        calls.append(arguments)
        return original(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(range_cache, "calibrate_ranges", counting)
    return lambda: len(calls)

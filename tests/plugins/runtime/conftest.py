"""The library, built once as users build it and once for each sanitizer; and bundles to open."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from once import made_once
from PIL import Image

from gsp_deploy.bundle.packaging import PackageOptions, package_model

from .native import Build, build

_QUICK = ("-DCMAKE_BUILD_TYPE=Debug", "-DCMAKE_CXX_FLAGS_DEBUG=-O0 -g1")


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """A release build."""
    return _built_once(tmp_path_factory, "runtime")


@pytest.fixture(scope="session")
def sanitized(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """A build that stops at the first wrong address, leak or undefined operation."""
    options = ("-DGSP_RUNTIME_SANITIZE=address,undefined", *_QUICK)
    targets = ("gsp_probe", "gsp_embed_images")
    return _built_once(tmp_path_factory, "sanitized", *options, targets=targets)


@pytest.fixture(scope="session")
def raced(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """A build that stops at the first data race."""
    options = ("-DGSP_RUNTIME_SANITIZE=thread", *_QUICK)
    targets = ("gsp_probe", "gsp_pipeline")
    return _built_once(tmp_path_factory, "raced", *options, targets=targets)


def _built_once(
    factory: pytest.TempPathFactory, name: str, *options: str, targets: Sequence[str] = ()
) -> Build:
    folder = made_once(factory, name, lambda folder: build(folder, *options, targets=targets))
    return Build(folder, options)


@pytest.fixture(scope="session")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Crops of a photograph of odd sizes, as JPEG and PNG."""
    from gsp_deploy.data.photographs import photograph

    folder = tmp_path_factory.mktemp("photographs")
    draw = np.random.default_rng(0)
    files = []
    for index, name in enumerate(("chelsea.png", "rocket.jpg", "coffee.png", "astronaut.png") * 2):
        photo = photograph(name)
        left, top = (int(draw.integers(0, side // 3)) for side in photo.size)
        width, height = (int(draw.integers(41, side // 2)) | 1 for side in photo.size)
        file = folder / f"{index}.{'jpg' if index % 2 else 'png'}"
        photo.crop((left, top, left + width, top + height)).save(file)
        files.append(file)
    return files


@pytest.fixture(scope="session")
def bundle(tiny_export: str, photographs: list[Path], tmp_path_factory) -> Path:
    """The tiny export, packaged with those photographs as golden images."""
    folder = tmp_path_factory.mktemp("bundles") / "tiny"
    package_model(tiny_export, folder, PackageOptions(images=[str(photographs[0].parent)]))
    return folder


@pytest.fixture(scope="session")
def bundle_of(
    tiny_checkpoint: Path, photographs: list[Path], tmp_path_factory
) -> Callable[..., Path]:
    """Return a function that exports the tiny checkpoint with options, and packages it."""
    from gsp_deploy import load_checkpoint
    from gsp_deploy.export import ExportOptions, export_onnx, quantisation_images

    def make(runtime=None, computes=None, **options: object) -> Path:
        folder = tmp_path_factory.mktemp("bundle")
        asked = ExportOptions(**{"iterations": 3, **options})
        model, path = load_checkpoint(tiny_checkpoint), folder / "m.onnx"
        images = None
        if asked.precision == "int8":
            images = quantisation_images(photographs[0].parent, model.config.preprocessing)
        onnx = export_onnx(model, path, asked, quantisation=images).path
        shown = [str(photographs[0].parent)]
        packing = PackageOptions(images=shown, runtime=runtime, precision=computes)
        return package_model(onnx, folder / "bundle", packing).folder

    return make


@pytest.fixture(scope="session")
def engine_bundle(tiny_export: str, make_engine, photographs, tmp_path_factory) -> Path:
    """A bundle whose first artifact is an engine, of a GPU that is not here."""
    folder = tmp_path_factory.mktemp("engine")
    engine = make_engine(Path(tiny_export), folder / "tiny.engine")
    images = [str(photographs[0].parent)]
    options = PackageOptions(onnx=Path(tiny_export), images=images)
    return package_model(engine, folder / "bundle", options).folder


@pytest.fixture(scope="session")
def variants(photographs: list[Path], tmp_path_factory) -> list[Path]:
    """One photograph in the forms that JPEG and PNG files take."""
    folder = tmp_path_factory.mktemp("variants")
    photo = Image.open(photographs[0]).convert("RGB").resize((61, 43))
    files = [
        folder / f"{name}.jpg" for name in ("444", "422", "420", "progressive", "grey", "inks")
    ]
    for file, subsampling in zip(files[:3], (0, 1, 2), strict=True):
        photo.save(file, quality=85, subsampling=subsampling)
    photo.save(files[3], progressive=True)
    photo.convert("L").save(files[4])
    photo.convert("CMYK").save(files[5])
    for turn in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = turn
        for suffix in ("jpg", "png"):
            files.append(folder / f"turn{turn}.{suffix}")
            photo.save(files[-1], exif=exif)
    packet = b'<x:xmpmeta><rdf tiff:Orientation="6"/></x:xmpmeta>'
    files.append(folder / "xmp.jpg")
    photo.save(files[-1], xmp=packet)
    return files + _png_modes(photo, folder)


def _png_modes(photo: Image.Image, folder: Path) -> list[Path]:
    veiled = photo.copy()
    veiled.putalpha(Image.linear_gradient("L").resize(photo.size))
    deep = np.asarray(photo.convert("L")).astype(np.uint16) * 211 + 19
    few = photo.convert("P")
    forms = {
        "rgba": (veiled, {}),
        "la": (veiled.convert("LA"), {}),
        "palette": (few, {}),
        "palette-hole": (few, {"transparency": 3}),
        "bit": (photo.convert("1"), {}),
        "grey-hole": (photo.convert("L"), {"transparency": 90}),
        "deep-grey": (Image.fromarray(deep), {}),
    }
    for name, (image, options) in forms.items():
        image.save(folder / f"{name}.png", **options)
    return [folder / f"{name}.png" for name in forms]

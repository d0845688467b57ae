"""Write the model repository: models, configurations, warm-up, a client and a README."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np
import onnx

from gsp_deploy.base.encoding import encode
from gsp_deploy.base.folders import new_folder
from gsp_deploy.bundle.files import foreign_file, write_sums
from gsp_deploy.errors import UsageError
from gsp_deploy.images.normalisation import check_uint8_images, normalise
from gsp_deploy.triton.configuration import (
    WARM_UP_FILE,
    TritonOptions,
    ensemble_config,
    network_config,
    normaliser_config,
)
from gsp_deploy.triton.model import ServedModel, served_model
from gsp_deploy.triton.normaliser import normaliser
from gsp_deploy.triton.readme import readme

VERSION = "1"
CLIENT = "client.py"
PREPROCESSING = "preprocessing.json"
GOLDEN = "golden.npz"
KIND = "model repository"


@dataclass(frozen=True, eq=False)
class GoldenVectors:
    """Images uint8 `(n, H, W, 3)` of the model's size, and their embeddings float32 `(n, D)`."""

    pixels: np.ndarray
    embeddings: np.ndarray

    def __post_init__(self) -> None:
        check_uint8_images(self.pixels)
        if not len(self.pixels) or len(self.embeddings) != len(self.pixels):
            raise UsageError(
                f"expected at least one golden image and one embedding per image, got "
                f"{len(self.pixels)} images "
                f"and {len(self.embeddings)} embeddings"
            )


@dataclass(frozen=True)
class TritonRepository:
    """A model repository on disk.

    Attributes:
        folder: the folder for `--model-repository`.
        name: the model that clients request: pixels in, embeddings out.
        models: all models in the repository.
        server_options: further options of `tritonserver`, such as the plugin.
    """

    folder: Path
    name: str
    models: tuple[str, ...]
    server_options: tuple[str, ...]


def write_triton_repository(
    model: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    golden: GoldenVectors,
    options: TritonOptions | None = None,
    *,
    name: str | None = None,
    plugin: Path | None = None,
    force: bool = False,
) -> TritonRepository:
    """Write a model repository, whole or not at all.

    Clients always send pixels. If the model takes uint8 pixels, it is served as it is. Otherwise
    the repository has a graph that normalises pixels, and an ensemble of that graph and the model.

    Args:
        model: an `.onnx` or `.engine` file with its manifest next to it.
        folder: folder of the new repository.
        golden: images to warm up the model and for `client.py --check`.
        options: batching, instances, placement.
        name: the model's name for clients; None takes the name of the file.
        plugin: the plugin library, for a plan with the pooling plugin.
        force: replace a model repository in `folder`.

    Raises:
        UsageError: Triton cannot serve this model, it needs a plugin that was not given, or
            `folder` exists and may not be replaced.
        ModelFileError: the model or its manifest is missing or damaged.
    """
    chosen, served = options or TritonOptions(), served_model(Path(model))
    called = _checked_name(name or Path(model).stem)
    _check_plugin(served, plugin)
    golden_input = _network_input(served, golden)
    network = called if served.includes_preprocessing else f"{called}_network"
    with new_folder(
        Path(folder), force=force, known_by=PREPROCESSING, kind=KIND, foreign=foreign_file
    ) as fresh:
        settings = network_config(network, served, golden_input.shape, chosen)
        _write_model(fresh / network, settings, served)
        warm_up = fresh / network / "warmup"
        warm_up.mkdir()
        (warm_up / WARM_UP_FILE).write_bytes(golden_input.tobytes())
        if plugin is not None:
            (fresh / network / "plugins").mkdir()
            shutil.copyfile(plugin, fresh / network / "plugins" / plugin.name)
        models: tuple[str, ...] = (network,)
        if not served.includes_preprocessing:
            steps = (f"{called}_normalise", network)
            models = (called, *steps)
            _write_ensemble(fresh, called, steps, served, chosen)
        made = TritonRepository(
            Path(folder), called, models, _server_options(served, network, plugin)
        )
        _write_companions(fresh, made, served, golden)
        write_sums(fresh)
    return made


def _write_model(folder: Path, config: str, served: ServedModel) -> None:
    version = folder / VERSION
    version.mkdir(parents=True)
    (folder / "config.pbtxt").write_text(config, encoding="utf-8")
    shutil.copyfile(served.path, version / served.file_name)
    for file in served.weights:
        target = version / file.relative_to(served.path.parent)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)


def _write_ensemble(
    folder: Path,
    ensemble: str,
    steps: tuple[str, str],
    served: ServedModel,
    options: TritonOptions,
) -> None:
    first = steps[0]
    version = folder / first / VERSION
    version.mkdir(parents=True)
    onnx.save(normaliser(served.preprocessing, served.input), version / "model.onnx")
    config = normaliser_config(first, served.input, options)
    (folder / first / "config.pbtxt").write_text(config, encoding="utf-8")
    empty = folder / ensemble / VERSION  # Triton requires it, and copying tools skip empty folders
    empty.mkdir(parents=True)
    (empty / ".keep").touch()
    config = ensemble_config(ensemble, steps, served, options)
    (folder / ensemble / "config.pbtxt").write_text(config, encoding="utf-8")


def _write_companions(
    folder: Path, made: TritonRepository, served: ServedModel, golden: GoldenVectors
) -> None:
    """Write the files next to the models; Triton reads only folders, so it ignores them."""
    spec = json.dumps({"model": made.name, **dataclasses.asdict(served.preprocessing)}, indent=2)
    (folder / PREPROCESSING).write_text(spec + "\n", encoding="utf-8")
    source = files("gsp_deploy.triton") / CLIENT
    (folder / CLIENT).write_text(source.read_text(encoding="utf-8"), encoding="utf-8")
    np.savez(folder / GOLDEN, pixels=golden.pixels, embeddings=golden.embeddings)
    text = readme(made.name, made.models, made.server_options, served)
    (folder / "README.md").write_text(text, encoding="utf-8")


def _network_input(served: ServedModel, golden: GoldenVectors) -> np.ndarray:
    """Return the first golden image as input of the network, without the batch."""
    if served.includes_preprocessing:
        return np.ascontiguousarray(golden.pixels[0])
    normalised = normalise(golden.pixels[:1], served.preprocessing)[0]
    return encode(normalised, served.input.dtype)


def _server_options(served: ServedModel, network: str, plugin: Path | None) -> tuple[str, ...]:
    options = []
    if plugin is not None:
        options.append(f"--backend-config=tensorrt,plugins=/models/{network}/plugins/{plugin.name}")
    if served.is_version_compatible:
        options.append("--backend-config=tensorrt,version-compatible=true")
    return tuple(options)


def _check_plugin(served: ServedModel, plugin: Path | None) -> None:
    if served.plugin is not None and plugin is None:
        raise UsageError(
            f"{served.path}: the plan needs the pooling plugin {served.plugin}; pass --plugin with "
            "its path"
        )
    if plugin is not None and served.backend != "tensorrt":
        raise UsageError(
            f"{served.path}: ONNX Runtime cannot use a TensorRT plugin; leave --plugin out"
        )
    if plugin is not None and not plugin.is_file():
        raise UsageError(f"{plugin}: no such plugin library")


def _checked_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_.-]+", name):
        raise UsageError(
            f"a model's name may contain letters, digits, _ . -, got {name!r}; pass --name"
        )
    return name

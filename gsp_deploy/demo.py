"""Run the whole chain on real images, without a GPU: export, build, check, bench, search."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.resources import as_file, files
from pathlib import Path

import numpy as np

from gsp_deploy.artifact import ExportManifest
from gsp_deploy.artifact.artifact import Artifact
from gsp_deploy.base.cores import available_cores
from gsp_deploy.base.file_names import require_utf8
from gsp_deploy.base.files import write_document, write_text
from gsp_deploy.base.folders import stranger
from gsp_deploy.base.progress import Announce
from gsp_deploy.benchmark import BenchmarkReport, BenchmarkSettings, run_benchmark
from gsp_deploy.checkpoint import load_checkpoint, read_checkpoint
from gsp_deploy.data import Dataset, open_dataset
from gsp_deploy.data.folders import read_folder
from gsp_deploy.data.writing import write_tree
from gsp_deploy.engine.api import installed_flavours
from gsp_deploy.engine.build import build_engine
from gsp_deploy.engine.options import BuildOptions
from gsp_deploy.engine.targets import sm_of
from gsp_deploy.errors import CheckpointError, UsageError
from gsp_deploy.export import ExportOptions, Source, export_onnx
from gsp_deploy.export.calibration import calibration_from_files
from gsp_deploy.images.files import ImageReader, find_images, read_images
from gsp_deploy.metrics import RetrievalMetrics
from gsp_deploy.parity import ParityReport, compare_files, image_reader, open_rounding
from gsp_deploy.report import html_page, read_documents, take_pictures
from gsp_deploy.retrieval.embedding import embed_files
from gsp_deploy.retrieval.evaluation import evaluate
from gsp_deploy.retrieval.gallery import Hit, build_gallery, identity_of, write_gallery
from gsp_deploy.retrieval.gallery.index import foreign_file
from gsp_deploy.runtime import open_session

SHIPPED = "glyphs.safetensors"
TWIN = "glyphs-gap.safetensors"  # the same network trained alike, with average pooling
MARKER = "demo.json"
# The engine is built for these compute capabilities: RTX 30 and RTX 50 cards.
ENGINE_TARGETS = ("8.6", "12.0")
HITS = 5
BATCHES = (1, 8)
ROUNDS = 40
_IMAGE = re.compile(r"images/(train|test)/[^/]+/[0-9]{4}\.png")  # as `write_tree` names them


@dataclass(frozen=True)
class Variant:
    """One way to export the model, with its title and file name in the demo."""

    title: str
    file: str
    options: ExportOptions


VARIANTS = (
    Variant("certified, fp32", "model.onnx", ExportOptions(outputs=("attributes", "weights"))),
    Variant(
        "paper's 100 steps",
        "model-paper.onnx",
        ExportOptions(outputs=("weights",), solver="fixed-point", iterations=100),
    ),
    Variant(
        "certified, fp16", "model-fp16.onnx", ExportOptions(outputs=("weights",), precision="fp16")
    ),
    Variant("certified, uint8", "model-uint8.onnx", ExportOptions(include_preprocessing=True)),
)


@dataclass(frozen=True, eq=False)
class DemoReport:
    """The results of the demo.

    Attributes:
        folder: folder with all files of the demo.
        checkpoint: the model that was deployed.
        images: number of test images.
        classes: number of their classes; the model has not seen them in training.
        retrieval: how well the checkpoint finds images of the same class.
        twin: the same for the network that was trained alike with average pooling.
        exports: the artifacts, in the order of `VARIANTS`.
        parity: each artifact compared with the checkpoint.
        benchmark: all artifacts timed in turns in one run.
        engine: a plan of TensorRT-RTX; None if TensorRT-RTX is not installed.
        gallery: folder of the searchable gallery, with every image except the query.
        query: the query image.
        hits: the images that the search found, the nearest first.
        page: the report of all this as one HTML page.
    """

    folder: Path
    checkpoint: Path
    images: int
    classes: int
    retrieval: RetrievalMetrics
    twin: RetrievalMetrics
    exports: tuple[Artifact[ExportManifest], ...]
    parity: tuple[ParityReport, ...]
    benchmark: BenchmarkReport
    engine: Artifact | None
    gallery: Path
    query: Path
    hits: tuple[Hit, ...]
    page: Path

    @property
    def passed(self) -> bool:
        """Whether every artifact passed every parity gate."""
        return all(report.passed for report in self.parity)


def run_demo(
    folder: Path,
    *,
    classes: int = 30,
    images_per_class: int = 8,
    rounds: int = ROUNDS,
    force: bool = False,
    announce: Announce = lambda message: None,
) -> DemoReport:
    """Deploy the included checkpoint, and check the result on images of unseen classes.

    Args:
        folder: folder for all files; new, or the folder of an earlier demo with `force`.
        classes, images_per_class: size of the test set, which is written as image files.
        rounds: rounds of the benchmark for each batch size.
        force: replace an earlier demo.
        announce: called with what happens next.

    Raises:
        UsageError: the folder contains something else, or an earlier demo without `force`.
    """
    _prepare(folder, force)
    checkpoint = _copy_checkpoint(SHIPPED, folder / "checkpoint.safetensors")
    twin = _copy_checkpoint(TWIN, folder / "average-pooling.safetensors")
    announce("writing test images of unseen classes")
    images = _write_images(checkpoint, folder / "images", classes, images_per_class)
    announce("searching them with the checkpoint, and with its twin that averages")
    retrieval, average = (_evaluate(model, folder / "images") for model in (checkpoint, twin))
    exports = tuple(_export(checkpoint, folder, variant, images, announce) for variant in VARIANTS)
    parity = tuple(_check(checkpoint, export.path, images, announce) for export in exports)
    announce("benchmarking all artifacts in turns")
    settings = BenchmarkSettings(
        batches=BATCHES, repeats=rounds, threads=available_cores(), memory=False
    )
    benchmark = run_benchmark([export.path for export in exports], settings)
    benchmark.save(folder / "benchmark.json")
    engine = _build(exports[0].path, folder / "model.engine", announce)
    announce("embedding the images into a gallery, and searching it")
    query, *others = images
    hits = _search(exports[0].path, query, others, folder)
    announce("writing the report")
    for variant, report in zip(VARIANTS, parity, strict=True):
        write_document(folder / f"check-{Path(variant.file).stem}.json", "check", report.to_dict())
    page = _write_page(checkpoint, exports, images, folder)
    return DemoReport(
        folder,
        checkpoint,
        len(images),
        len({image.parent for image in images}),
        retrieval,
        average,
        exports,
        parity,
        benchmark,
        engine,
        folder / "gallery",
        query,
        hits,
        page,
    )


def _names() -> list[str]:
    """Return the names of the files and folders in a demo's folder."""
    exports = [variant.file for variant in VARIANTS]
    return [
        MARKER, "checkpoint.safetensors", "average-pooling.safetensors", "images",
        "benchmark.json", "model.engine", "model.engine.json", "gallery", "search.json",
        "report.html", *exports,
        *(f"{file}.json" for file in exports),
        *(f"check-{Path(file).stem}.json" for file in exports),
    ]  # fmt: skip


def _foreign_file(folder: Path) -> str | None:
    """Return the name of a file in a demo's folder that the demo did not write, or None."""
    if name := stranger(folder, _names()):
        return name
    if (folder / "gallery").is_dir() and (name := foreign_file(folder / "gallery")):
        return f"gallery/{name}"
    images = (path for path in sorted((folder / "images").rglob("*")) if not path.is_dir())
    names = (path.relative_to(folder).as_posix() for path in images)
    return next((name for name in names if not _IMAGE.fullmatch(name)), None)


def _prepare(folder: Path, force: bool) -> None:
    """Empty the folder; remove only the folder of an earlier demo."""
    require_utf8(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        if not (folder / MARKER).is_file():
            raise UsageError(f"{folder} exists and contains no earlier demo; choose another folder")
        if name := _foreign_file(folder):
            raise UsageError(
                f"{folder} contains {name}, which the demo did not make; move it away, or choose "
                "another folder"
            )
        if not force:
            raise UsageError(f"{folder} contains an earlier demo; pass --force to replace it")
        shutil.rmtree(folder)
    write_text(folder / MARKER, '{"made_by": "gsp-deploy demo"}\n')


def _copy_checkpoint(name: str, target: Path) -> Path:
    """Copy a checkpoint that comes with the package."""
    with as_file(files("gsp_deploy_models").joinpath(name)) as path:
        return Path(shutil.copy(path, target))


def _write_images(
    checkpoint: Path, folder: Path, classes: int, images_per_class: int
) -> list[Path]:
    """Write some of the unseen classes of the checkpoint's own kind of data as PNG files."""
    metadata = read_checkpoint(checkpoint).metadata
    if metadata is None or metadata.provenance.dataset is None:
        raise CheckpointError(f"{checkpoint}: does not say what data it was trained on")
    dataset = open_dataset(metadata.provenance.dataset)
    chosen = dataset.test.of_classes(range(min(classes, dataset.test.num_classes)))
    each = [
        np.flatnonzero(chosen.labels == c)[:images_per_class] for c in range(chosen.num_classes)
    ]
    part = Dataset(dataset.name, dataset.train.subset([]), chosen.subset(np.concatenate(each)))
    write_tree(part, folder)
    return find_images([folder])


def _evaluate(checkpoint: Path, images: Path) -> RetrievalMetrics:
    """Search each image among the others with the checkpoint in PyTorch."""
    with open_session(checkpoint) as session:
        (found,) = evaluate([session], read_folder(images)).models.values()
    return found


def _export(
    checkpoint: Path, folder: Path, variant: Variant, images: list[Path], announce: Announce
) -> Artifact[ExportManifest]:
    announce(f"exporting: {variant.title}")
    model = load_checkpoint(checkpoint)
    assert model.config.preprocessing is not None
    calibration = calibration_from_files(images[0].parents[1], model.config.preprocessing)
    source = Source.of(checkpoint)
    return export_onnx(model, folder / variant.file, variant.options, calibration, source)


def _check(
    checkpoint: Path, exported: Path, images: list[Path], announce: Announce
) -> ParityReport:
    announce(f"checking: {exported.name}")
    with open_session(checkpoint) as reference, open_rounding(exported) as candidate:
        return compare_files(reference, candidate, image_reader(reference, candidate, images))


def _build(onnx: Path, engine: Path, announce: Announce) -> Artifact | None:
    """Build a real plan for two GPUs if TensorRT-RTX is installed; building needs no GPU."""
    if "tensorrt-rtx" not in installed_flavours():
        announce("no engine: TensorRT-RTX is not installed")
        return None
    announce(f"building an engine for {' and '.join(map(sm_of, ENGINE_TARGETS))}")
    return build_engine(onnx, engine, BuildOptions(targets=ENGINE_TARGETS))


def _search(model: Path, query: Path, others: list[Path], folder: Path) -> tuple[Hit, ...]:
    """Fill a gallery with all images except the query, and search it once."""
    with open_session(model) as session:
        spec = session.info.require_preprocessing()
        gallery = build_gallery(session, ImageReader(others, spec))
        table = embed_files(session, ImageReader([query], spec))
        (hits,), _ = gallery.search(identity_of(session), table.embeddings, HITS)
    write_gallery(gallery, folder / "gallery")
    results = [{"query": str(query), "hits": [asdict(hit) for hit in hits]}]
    write_document(folder / "search.json", "search", {"results": results})
    return tuple(hits)


def _write_page(
    checkpoint: Path, exports: Sequence[Artifact[ExportManifest]], images: list[Path], folder: Path
) -> Path:
    """Write the report of the folder; its pictures compare neighbours in half precision."""
    deployed = next(e.path for e in exports if e.manifest.precision == "fp16")
    with open_session(checkpoint) as reference, open_rounding(deployed) as candidate:
        batch, _ = read_images(images, reference.info.require_preprocessing())
        pictures = take_pictures(reference, candidate, batch)
    page = folder / "report.html"
    write_text(page, html_page("What the demo deployed", read_documents([folder]), pictures))
    return page

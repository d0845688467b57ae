"""`gsp-deploy check`: compare a model with the one that it was made from, on images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from gsp_deploy.base.choices import RuntimeWord
from gsp_deploy_cli.options.common import Json, Labels, ModelFile, Strict
from gsp_deploy_cli.options.groups import panel
from gsp_deploy_cli.options.inputs import existing_images, existing_model_or_embeddings
from gsp_deploy_cli.options.runtime import RuntimeOptions
from gsp_deploy_cli.tables import show

if TYPE_CHECKING:
    from gsp_deploy.parity import ParityReport
    from gsp_deploy.runtime import EmbeddingSession, SessionOptions

LAYER_IMAGES = 8
limit_option = panel("Limits (default: those of the candidate's precision)")


def _limit(text: str) -> typer.models.OptionInfo:
    return limit_option(min=0, help=text)


@dataclass(frozen=True)
class Limits:
    """How far the candidate may be from the reference; None means the limit of its precision."""

    max_cosine_distance: Annotated[float | None, _limit("1 - cosine of the two embeddings.")] = None
    max_embedding_error: Annotated[float | None, _limit("Relative to the largest entry.")] = None
    max_attribute_error: Annotated[float | None, _limit("Relative to the largest entry.")] = None
    max_weight_error: Annotated[float | None, _limit("Relative to the weights' spread.")] = None
    max_marginal_error: Annotated[float | None, _limit("|mean w - 1|.")] = None
    max_flips: Annotated[
        float | None, _limit("Share of images whose nearest neighbour changes.")
    ] = None
    min_overlap: Annotated[
        float | None, _limit("Share of the 10 nearest neighbours that stay.")
    ] = None
    max_recall_drop: Annotated[float | None, _limit("Loss of R@1, in [0, 1].")] = None
    max_map_drop: Annotated[float | None, _limit("Loss of MAP@R, in [0, 1].")] = None
    max_batch_error: Annotated[
        float | None, _limit("Change of an embedding with its position in a batch.")
    ] = None
    max_leak: Annotated[
        float | None, _limit("Change of an embedding with the batch's other images.")
    ] = None
    max_layer_error: Annotated[
        float | None, _limit("Relative RMS error of a node, for --layers.")
    ] = None


def check(
    reference: Annotated[
        Path,
        typer.Argument(
            help="The model to compare with, or a data set that embed wrote.",
            callback=existing_model_or_embeddings,
        ),
    ],
    candidate: ModelFile,
    *,
    images: Annotated[
        list[str],
        typer.Option(
            "--images",
            help="A folder, file or glob pattern; repeatable.",
            callback=existing_images,
        ),
    ],
    labels: Labels = "folder",
    limit: Annotated[
        int | None,
        typer.Option(
            min=1, help=f"Number of images to use. (default: all; {LAYER_IMAGES} for --layers)"
        ),
    ] = None,
    layers: Annotated[
        bool,
        typer.Option("--layers", help="Find the first node of the graph that differs too much."),
    ] = False,
    strict: Strict = False,
    ref_device: Annotated[str | None, typer.Option(help="Device of the reference.")] = None,
    ref_provider: Annotated[
        str | None, typer.Option(help="ONNX Runtime's execution provider of the reference.")
    ] = None,
    ref_runtime: Annotated[
        RuntimeWord | None,
        typer.Option(help="What runs an ONNX reference. (default: onnxruntime)"),
    ] = None,
    runtime: RuntimeOptions,
    emulate_fp16: Annotated[
        bool, typer.Option(help="Round float16 as a GPU does where the CPU would not.")
    ] = True,
    limits: Limits,
    json: Json = False,
) -> None:
    """Compare two models on images: outputs, neighbours, batching. Exit code 3 if a gate fails.

    Both models get the same pixels. --layers compares every node of the graph
    instead, and names the first node that differs and its PyTorch module.
    """
    from gsp_deploy.images.files import evenly_spaced, find_images
    from gsp_deploy.retrieval.stored import holds_embeddings

    files = find_images(images, show.note)
    of_reference = runtime.for_other(ref_device, ref_runtime, ref_provider)
    pair = _Pair(
        reference,
        None if holds_embeddings(reference) else of_reference.for_model(reference),
        candidate,
        runtime.for_model(candidate),
        emulate_fp16,
    )
    if layers:
        chosen = evenly_spaced(files, limit or LAYER_IMAGES)
        _check_layers(pair, chosen, strict, limits.max_layer_error, json)
        return
    _check_outputs(pair, files[:limit], strict, labels == "folder", limits, json)


class _Pair(NamedTuple):
    """The two models and how each is run."""

    reference: Path
    reference_options: SessionOptions | None  # None: the reference is stored embeddings
    candidate: Path
    candidate_options: SessionOptions
    emulate_fp16: bool

    @contextmanager
    def sessions(self) -> Iterator[tuple[EmbeddingSession, EmbeddingSession]]:
        from gsp_deploy.parity import open_rounding
        from gsp_deploy.runtime import open_with

        opening = open_rounding if self.emulate_fp16 else open_with
        with (
            self._open_reference(opening) as first,
            opening(self.candidate, self.candidate_options) as second,
        ):
            yield first, second

    def _open_reference(self, opening: Callable[..., EmbeddingSession]) -> EmbeddingSession:
        if self.reference_options is not None:
            return opening(self.reference, self.reference_options)
        from gsp_deploy.parity.stored import StoredReference
        from gsp_deploy.retrieval.dataset import open_embeddings

        return StoredReference(open_embeddings(self.reference))

    def compare(self, *arguments: Any, **options: Any) -> ParityReport:
        """Compare the open sessions; see `compare_files` and `compare_stored`."""
        from gsp_deploy.parity import compare_files

        if self.reference_options is not None:
            return compare_files(*arguments, **options)
        from gsp_deploy.parity.stored import compare_stored

        return compare_stored(*arguments, **options)


def _check_outputs(
    pair: _Pair,
    files: Sequence[Path],
    strict: bool,
    with_labels: bool,
    limits: Limits,
    json: bool,
) -> None:
    from gsp_deploy.parity import image_reader, tolerances_for
    from gsp_deploy_cli.tables.check import show_parity

    with pair.sessions() as (first, second):
        tolerances = tolerances_for(second.info.precision, asdict(limits))
        reader = image_reader(first, second, files, strict)
        with show.counting("comparing", len(files)) as advance:
            report = pair.compare(
                first,
                second,
                reader,
                labels_from_folders=with_labels,
                tolerances=tolerances,
                progress=advance,
            )
    if json:
        show.document("check", report.to_dict())
    else:
        show_parity(report)
    report.raise_on_failure()


def _check_layers(
    pair: _Pair, files: Sequence[Path], strict: bool, threshold: float | None, json: bool
) -> None:
    import numpy as np

    from gsp_deploy.errors import UsageError
    from gsp_deploy.parity import image_reader
    from gsp_deploy.parity.layers import compare_layers
    from gsp_deploy_cli.tables.check import show_layers

    if pair.reference_options is None:
        raise UsageError(f"--layers compares networks, and {pair.reference} contains embeddings")
    with pair.sessions() as (first, second):
        reader = image_reader(first, second, files, strict)
    with show.status("running both graphs"):
        report = compare_layers(
            pair.reference,
            pair.candidate,
            np.concatenate([batch.images for batch in reader]),
            threshold,
            pair.reference_options,
            pair.candidate_options,
            emulate_fp16=pair.emulate_fp16,
        )
    if json:
        show.document("check-layers", report.to_dict())
    else:
        show_layers(report)
    report.raise_on_failure()

"""`gsp-deploy evaluate`: measure how well a model retrieves images of a data set."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gsp_deploy.base.words import counted
from gsp_deploy_cli.options.common import Json, ReducedJpeg
from gsp_deploy_cli.options.inputs import existing_data, existing_model_or_embeddings
from gsp_deploy_cli.options.numbers import whole_numbers
from gsp_deploy_cli.options.runtime import RuntimeOptions
from gsp_deploy_cli.tables import show

if TYPE_CHECKING:
    from gsp_deploy.metrics import RetrievalMetrics
    from gsp_deploy.retrieval.evaluation import Embedder, Evaluation


def evaluate(
    models: Annotated[
        list[Path],
        typer.Argument(
            help="One or more models, or embeddings that embed wrote; several are also evaluated "
            "together, as an ensemble.",
            callback=existing_model_or_embeddings,
        ),
    ],
    *,
    data: Annotated[
        str,
        typer.Option(
            help="A data set: glyphs, cub:PATH, a folder... (see `data list`).",
            callback=existing_data,
        ),
    ],
    ranks: Annotated[
        str | None, typer.Option(help="K of R@K, as 1,2,4,8. (default: the data set's own)")
    ] = None,
    reduced_jpeg: ReducedJpeg = False,
    runtime: RuntimeOptions,
    json: Json = False,
) -> None:
    """Embed a data set's test part and report R@K, MAP@R and R-precision."""
    from gsp_deploy.data import open_dataset
    from gsp_deploy.retrieval.evaluation import evaluate as run

    chosen = None if ranks is None else whole_numbers("--ranks", ranks)
    dataset = open_dataset(data).for_evaluation()
    with ExitStack() as stack:
        sessions = [_opened(model, runtime, stack) for model in models]
        notes = [note for session in sessions if (note := _other_data(session, data))]
        with show.counting("embedding", len(dataset.test) * len(models)) as advance:
            found = run(sessions, dataset, chosen, advance, reduced_jpeg=reduced_jpeg)
    if json:
        show.document("evaluate", {"data": data, **found.to_dict()})
    else:
        _report(found)
    for note in notes:
        show.remark(note)


def _opened(path: Path, runtime: RuntimeOptions, stack: ExitStack) -> Embedder:
    """Open a model, or embeddings that a model has computed before."""
    from gsp_deploy.retrieval.stored import holds_embeddings

    if holds_embeddings(path):
        from gsp_deploy.retrieval.dataset import open_embeddings

        return open_embeddings(path)
    return stack.enter_context(runtime.open(path, many=True))


def _other_data(session: Embedder, data: str) -> str | None:
    """Return a note if the model was trained on other settings of the same kind of data."""
    from gsp_deploy.runtime import EmbeddingSession

    if not isinstance(session, EmbeddingSession):
        return None
    manifest = session.info.manifest
    trained = None if manifest is None else manifest.provenance.get("dataset")
    kind = data.partition(":")[0]
    if not isinstance(trained, str) or trained == data or trained.partition(":")[0] != kind:
        return None
    return f"{session.info.path.name} was trained on {trained}, and this is {data}"


def _report(found: Evaluation) -> None:
    first = next(iter(found.models.values()))
    columns = ["", *(f"R@{rank}" for rank in first.recall_at), "MAP@R", "R-prec."]
    rows = [_row(name, metrics) for name, metrics in found.models.items()]
    if found.concatenated is not None:
        rows.append(["mean of the models", *(f"{100 * v:.2f}" for v in found.separated.values())])
        rows.append(_row("joined embeddings", found.concatenated))
    size = f"{counted(found.images, 'image')} of {counted(found.classes, 'class', 'classes')}"
    title = f"{found.dataset}: {size}, per cent"
    show.table(title, columns, rows)
    for note in found.notes:
        show.remark(note)


def _row(name: str, metrics: RetrievalMetrics) -> list[str]:
    return [name, *(f"{100 * value:.2f}" for value in metrics.to_dict().values())]

"""Compare a model with embeddings on disk: does it give what the data set contains?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from gsp_deploy.artifact import TensorSpec
from gsp_deploy.base.progress import Advance
from gsp_deploy.errors import UsageError
from gsp_deploy.images.files import ImageReader, class_labels
from gsp_deploy.parity.outputs import PairedOutputs, naming, prepared, shared_preprocessing
from gsp_deploy.parity.report import ParityReport, TestedImages, judge
from gsp_deploy.precision import Tolerances
from gsp_deploy.retrieval.dataset import StoredEmbeddings, embeddings_of
from gsp_deploy.runtime.session import EmbeddingSession, SessionInfo, SessionOptions


class StoredReference(EmbeddingSession):
    """Stored embeddings in the place of a reference model; it describes the model behind them.

    Raises:
        UsageError: the embeddings do not record their model, as a single file does not.
    """

    def __init__(self, stored: StoredEmbeddings) -> None:
        if stored.manifest is None:
            raise UsageError(
                f"{stored.path} does not record its model, so it cannot be a reference; give a "
                "data set that embed wrote into a folder"
            )
        settings = stored.manifest.settings
        model = settings.model
        info = SessionInfo(
            path=stored.path,
            runtime=settings.runtime,
            device="stored",
            precision=model.precision,
            input=TensorSpec("images", "float32", ("batch", 3, "height", "width")),
            outputs=("embedding",),
            embedding_dim=model.embedding_dim,
            preprocessing=model.preprocessing,
        )
        super().__init__(info, SessionOptions())
        self.stored = stored

    def infer(self, inputs: np.ndarray, outputs: Sequence[str]) -> Mapping[str, np.ndarray]:
        """Refuse: there are embeddings here, and no network."""
        raise UsageError(f"{self.info.path} contains embeddings and cannot embed images")

    def close(self) -> None:
        """Do nothing: no file stays open."""
        self.closed = True


def compare_stored(
    reference: StoredReference,
    candidate: EmbeddingSession,
    reader: ImageReader,
    *,
    labels_from_folders: bool = True,
    tolerances: Tolerances | None = None,
    progress: Advance | None = None,
) -> ParityReport:
    """Compare a model with stored embeddings of the same images; see `compare_files`.

    Raises:
        DataError: an image has no stored embedding.
        UsageError: the stored embeddings have another length.
    """
    spec = shared_preprocessing(reference, candidate)
    files: list[Path] = []
    found: list[np.ndarray] = []
    sample: np.ndarray | None = None
    for batch in reader:
        sample = batch.images if sample is None else sample
        files += batch.files
        with naming(candidate.info.path):
            found.append(candidate.embed(prepared(candidate, batch.images, spec)))
        if progress is not None:
            progress(len(batch))
    names = [file.as_posix() for file in files]
    expected = embeddings_of(reference.stored, names)
    embeddings = np.concatenate(found)
    if embeddings.shape != expected.shape:
        raise UsageError(
            f"{reference.info.path} has {expected.shape[1]}-D embeddings, and "
            f"{candidate.info.path} gives {embeddings.shape[1]}-D ones"
        )
    note = "weights and attributes not compared: the reference is a data set of embeddings"
    paired = PairedOutputs({"embedding": expected}, {"embedding": embeddings}, (note,))
    assert sample is not None  # a reader without an image raises
    skipped = tuple(failure.reason for failure in reader.failures)
    tested = TestedImages(tuple(names), sample, skipped)
    labels = class_labels(files) if labels_from_folders else None
    return judge(reference, candidate, paired, tested, labels, tolerances)

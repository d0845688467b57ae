"""Data sets of embeddings: a folder of Parquet parts with a manifest, and tables in one file.

    stored = open_embeddings("out/")
    for batch in stored:                  # ids, and embeddings float32 (n, D)
        print(batch.ids[0], batch.embeddings.shape)
    stored.identity                       # the model; None for .npy, .npz and one .parquet

You need pyarrow.
"""

from gsp_deploy.retrieval.dataset.layout import EmbeddingSettings, Part
from gsp_deploy.retrieval.dataset.lookup import embeddings_of
from gsp_deploy.retrieval.dataset.manifest import DatasetManifest, read_manifest, write_manifest
from gsp_deploy.retrieval.dataset.reading import (
    StoredBatch,
    StoredEmbeddings,
    open_embeddings,
)
from gsp_deploy.retrieval.stored import MANIFEST, holds_embeddings

__all__ = [
    "MANIFEST",
    "DatasetManifest",
    "EmbeddingSettings",
    "Part",
    "StoredBatch",
    "StoredEmbeddings",
    "embeddings_of",
    "holds_embeddings",
    "open_embeddings",
    "read_manifest",
    "write_manifest",
]

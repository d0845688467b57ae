"""On Spark: a folder of images to a Parquet table, with one model for each Python worker.

spark-submit spark_embed.py model.onnx photos/ embeddings.parquet

Take this if the images are in Spark already. If they are files or tar shards, `gsp-deploy embed`
needs no Spark, continues after a kill, and lists the images that it cannot read.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Iterator

import numpy as np
import pandas as pd
from pyspark.sql import DataFrame, SparkSession

from gsp_deploy.errors import DataError
from gsp_deploy.images.decoding import decode_image
from gsp_deploy.images.preprocessing import fit_image
from gsp_deploy.runtime import open_session

SCHEMA = "id string, embedding array<float>, error string"


def embed_frame(model: str, images: DataFrame, batch: int) -> DataFrame:
    """Return the embeddings of a frame with the columns `path` and `content`.

    An image that cannot be read has no embedding, and the reason in `error`.
    """

    def embed(frames: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        with open_session(model, threads=1) as session:  # once for each partition
            spec = session.info.require_preprocessing()
            for frame in frames:
                for start in range(0, len(frame), batch):
                    rows = frame.iloc[start : start + batch]
                    pixels: list[np.ndarray] = []
                    errors: list[str | None] = []
                    for path, content in zip(rows["path"], rows["content"], strict=True):
                        try:
                            image = decode_image(io.BytesIO(content), path)
                            pixels.append(fit_image(image, spec))
                            errors.append(None)
                        except DataError as error:
                            errors.append(str(error))
                    found = iter(session.embed(np.stack(pixels)) if pixels else [])
                    embeddings = [next(found) if error is None else None for error in errors]
                    yield pd.DataFrame(
                        {"id": rows["path"], "embedding": embeddings, "error": errors}
                    )

    return images.select("path", "content").mapInPandas(embed, SCHEMA)


def main() -> None:
    """Embed the images of a folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", help="seen by every machine under this path")
    parser.add_argument("images")
    parser.add_argument("output", help="a folder of Parquet files, which Spark writes")
    parser.add_argument("--batch", type=int, default=32)
    asked = parser.parse_args()
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)  # the workers need the same packages
    spark = SparkSession.builder.appName("embed").getOrCreate()
    # Image files are large: a few hundred in a batch between Java and Python are enough.
    spark.conf.set("spark.sql.execution.arrow.maxRecordsPerBatch", "256")
    reader = spark.read.format("binaryFile").option("recursiveFileLookup", "true")
    images = reader.option("pathGlobFilter", "*.{png,jpg,jpeg,webp}").load(asked.images)
    embed_frame(asked.model, images, asked.batch).write.parquet(asked.output)
    written = spark.read.parquet(asked.output)
    failed = written.where("error is not null").count()
    print(f"{written.count() - failed} embedded, {failed} skipped")
    spark.stop()


if __name__ == "__main__":
    main()

"""A batch job: a folder of images to one table, in constant memory, broken files left out.

python batch_job.py model.onnx photos/ embeddings.npy
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np

from gsp_deploy.images.files import ImageReader, find_images
from gsp_deploy.runtime import open_session


def main() -> None:
    """Embed the images; decoding threads work ahead of the network."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("images")
    parser.add_argument("output", type=Path, help="a .npy; the ids go beside it")
    parser.add_argument("--batch", type=int, default=32)
    asked = parser.parse_args()

    files = find_images([asked.images])
    with open_session(asked.model) as session:
        spec = session.info.preprocessing
        if spec is None:
            raise SystemExit(f"{asked.model} does not say how images are prepared")
        reader = ImageReader(files, spec, batch_size=asked.batch)
        ids: list[str] = []
        # Rows go to disk as they come; broken files leave room at the end, which is cut off.
        with tempfile.TemporaryDirectory(dir=asked.output.parent) as folder:
            shape = (len(files), session.info.embedding_dim)
            rows = np.memmap(Path(folder) / "rows", np.float32, "w+", shape=shape)
            for batch in reader:
                rows[len(ids) : len(ids) + len(batch.ids)] = session.embed(batch.images)
                ids += batch.ids
            np.save(asked.output, rows[: len(ids)])
    asked.output.with_suffix(".ids.txt").write_text("".join(f"{name}\n" for name in ids))
    print(f"{len(ids)} embedded, {len(reader.failures)} skipped")


if __name__ == "__main__":
    main()

"""Several threads on one session: ONNX Runtime runs them side by side, one copy of the weights.

    python threads.py model.onnx --threads 4

`threads=1` for each inference and as many callers as there are cores gives the most throughput;
one caller with all cores gives the least latency. A TensorRT session runs one batch at a time: give
each thread its own with `session.another()`.
"""

from __future__ import annotations

import argparse
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from gsp_deploy.runtime import open_session


def main() -> None:
    """Embed batches of noise from several threads and make sure that none was mixed up."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batches", type=int, default=16)
    asked = parser.parse_args()

    with open_session(asked.model, threads=1) as session:
        spec = session.info.preprocessing
        if spec is None:
            raise SystemExit(f"{asked.model} does not say how images are prepared")
        shape = (asked.batches, 4, spec.height, spec.width, 3)
        batches = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
        with ThreadPoolExecutor(asked.threads) as pool:
            found = list(pool.map(session.embed, batches))
        alone = [session.embed(batch) for batch in batches]
    worst = max(float(np.abs(a - b).max()) for a, b in zip(found, alone, strict=True))
    print(f"{asked.batches} batches by {asked.threads} threads, greatest difference {worst:.1e}")


if __name__ == "__main__":
    main()

"""Embed image files with a server that speaks the KServe v2 protocol, such as Triton.

    python client.py photo.jpg other.jpg -o embeddings.npy
    python client.py --check

Reads `preprocessing.json` (the model's name and how to prepare images) and, with --check,
`golden.npz`, both from the folder of this file. Needs tritonclient[http] and gsp-deploy.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput
from tritonclient.utils import InferenceServerException

from gsp_deploy.config import PreprocessingSpec
from gsp_deploy.errors import GspDeployError
from gsp_deploy.images.preprocessing import load_image

HERE = Path(__file__).parent
TOLERANCE = 1e-3  # cosine distance; fp16 on another device differs by much less


def main() -> int:
    """Embed files or check the golden images.

    Return the exit code: 0 done, 1 failed, 3 the golden images' embeddings differ.
    """
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images", nargs="*", help="image files")
    parser.add_argument("-o", "--output", default="embeddings.npy")
    parser.add_argument("-u", "--url", default="localhost:8000", help="host:port of HTTP")
    parser.add_argument("-b", "--batch", type=int, default=16, help="images in a request")
    parser.add_argument("--check", action="store_true", help="embed the golden images")
    asked = parser.parse_args()
    if asked.batch < 1:
        parser.error(f"--batch must be at least 1, got {asked.batch}")
    if not asked.images and not asked.check:
        parser.error("name at least one image, or --check")
    try:
        return answer(asked)
    except (GspDeployError, InferenceServerException) as error:
        return failed(str(error))
    except OSError as error:
        return failed(f"{error.filename or asked.url}: {error.strerror or error}")


def answer(asked: argparse.Namespace) -> int:
    """Run the request of the command line; return the exit code."""
    settings = json.loads((HERE / "preprocessing.json").read_text(encoding="utf-8"))
    client, model = InferenceServerClient(asked.url), settings.pop("model")
    if asked.check:
        return check(client, model)
    spec = PreprocessingSpec.from_dict(settings)
    pixels = [load_image(path, spec) for path in asked.images]
    batches = [
        embed(client, model, np.stack(pixels[start : start + asked.batch]))
        for start in range(0, len(pixels), asked.batch)
    ]
    np.save(asked.output, np.concatenate(batches))
    print(f"{asked.output}: {len(pixels)} embeddings")
    return 0


def embed(client: InferenceServerClient, model: str, pixels: np.ndarray) -> np.ndarray:
    """Return the embeddings float32 `(n, D)` of images uint8 `(n, H, W, 3)` from one request."""
    source = client.get_model_metadata(model)["inputs"][0]["name"]
    tensor = InferInput(source, list(pixels.shape), "UINT8")
    tensor.set_data_from_numpy(np.ascontiguousarray(pixels))
    wanted = [InferRequestedOutput("embedding")]
    found: np.ndarray = client.infer(model, [tensor], outputs=wanted).as_numpy("embedding")
    return found.astype(np.float32)


def check(client: InferenceServerClient, model: str) -> int:
    """Compare golden images' embeddings with the stored ones; return 0 if they agree, else 3."""
    with np.load(HERE / "golden.npz", allow_pickle=False) as golden:
        pixels, expected = golden["pixels"], golden["embeddings"]
    found = embed(client, model, pixels)
    lengths = np.linalg.norm(found, axis=1) * np.linalg.norm(expected, axis=1)
    worst = float(np.max(1 - (found * expected).sum(axis=1) / lengths))
    agrees = worst <= TOLERANCE
    print(f"{'agrees' if agrees else 'DIFFERS'}: worst cosine distance {worst:.1e}")
    return 0 if agrees else 3


def failed(why: str) -> int:
    """Print why there are no embeddings, and return the exit code."""
    print(f"error: {why}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())

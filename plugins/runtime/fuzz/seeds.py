"""Write what each harness starts from, a folder for each: python seeds.py OUT.

The images and metadata are the tests' own (`tests/doubles/image_corpus`).
"""

from __future__ import annotations

import hashlib
import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[3] / "tests" / "doubles"))

from image_corpus import jpeg, metadata, png
from int8_network import int8_network

EVERY = 12  # of the images of each container, one in so many


def decode() -> Iterator[bytes]:
    """Yield small images of both containers."""
    for cases in (jpeg.cases(), png.cases()):
        yield from (case.content for i, case in enumerate(cases) if i % EVERY == 0)


def orientation() -> Iterator[bytes]:
    """Yield EXIF blocks, XMP packets and texts."""
    yield from (block for block, _ in metadata.exif_blocks().values())
    yield from (packet for packet, _ in metadata.xmp_packets().values())
    yield b"Raw profile type exif\0\nexif\n 1\n" + metadata.stated(6).hex().encode()


def json_texts() -> Iterator[bytes]:
    """Yield JSON."""
    yield b'{"a": -1.5e3, "b": [true, false, null, "\\u00e9\\ud83d\\ude00\\n"], "c": {}}'
    yield json.dumps(manifest()).encode()


def npy() -> Iterator[bytes]:
    """Yield arrays."""
    for array in (np.zeros((2, 3), "<f4"), np.zeros((1, 2, 2, 3), "u1"), np.float32(7)):
        stream = io.BytesIO()
        np.save(stream, array)
        yield stream.getvalue()


def bundle() -> Iterator[bytes]:
    """Yield a manifest and its sums."""
    name = hashlib.sha256(b"abc").hexdigest() + "  model.onnx\n"
    yield json.dumps(manifest()).encode() + b"\0" + name.encode()


def manifest() -> dict[str, object]:
    """Return a manifest of a bundle of one ONNX model."""
    return {
        "format": 1,
        "model": "resnet18",
        "embedding_dim": 8,
        "preprocessing": {
            "height": 32, "width": 32, "mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25],
            "interpolation": "bilinear", "resize": "crop", "crop_ratio": 0.875,
            "pipeline": "torchvision",
        },
        "artifacts": [
            {
                "runtime": "onnxruntime", "file": "model.onnx", "precision": "fp32",
                "max_cosine_distance": 1e-4, "fixed_batch": None,
                "input": {"name": "pixels", "dtype": "uint8", "shape": ["batch", 32, 32, 3]},
            }
        ],
        "golden": {"images": "i.npy", "embeddings": "e.npy", "photograph": "p.png"},
    }  # fmt: skip


def unsigned() -> Iterator[bytes]:
    """Yield an int8 graph."""
    yield int8_network().SerializeToString()


SEEDS = {
    "decode": decode, "orientation": orientation, "json": json_texts, "npy": npy, "bundle": bundle,
    "unsigned": unsigned,
}  # fmt: skip


def main(out: Path) -> None:
    """Write all seeds."""
    for parser, seeds in SEEDS.items():
        folder = out / parser
        folder.mkdir(parents=True, exist_ok=True)
        for index, content in enumerate(seeds()):
            (folder / f"{index:04d}").write_bytes(content)


if __name__ == "__main__":
    main(Path(sys.argv[1]))

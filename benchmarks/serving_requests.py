"""Requests for `serving.py`: good ones with their right answer, bad ones with their code."""

from __future__ import annotations

import io
import json
import random
import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from gsp_deploy.serving.kserve import HEADER_LENGTH

TOLERANCE = 1e-4  # of an embedding's entries: batches of other sizes round otherwise


@dataclass(frozen=True, eq=False)
class Call:
    """One request and what must come back.

    Attributes:
        kind: what it is called in the counts.
        path: where it goes.
        body: its bytes.
        headers: its headers.
        status: HTTP's code that is right.
        images: which images it holds; empty for the bad ones.
        read: how the embeddings are read from the reply.
    """

    kind: str
    path: str
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)
    status: int = 200
    images: tuple[int, ...] = ()
    read: Callable[[bytes, Mapping[str, str]], np.ndarray] | None = None


@dataclass(frozen=True, eq=False)
class Material:
    """Distinct images: as files, as pixels uint8 `(n, H, W, 3)`, and their right embeddings."""

    files: tuple[bytes, ...]
    pixels: np.ndarray
    expected: np.ndarray

    def is_right(self, call: Call, found: np.ndarray) -> bool:
        """Whether a reply's rows are those of the very images that were asked for."""
        wanted = self.expected[list(call.images)]
        return found.shape == wanted.shape and bool(np.abs(found - wanted).max() <= TOLERANCE)


def draw_call(material: Material, model: str, bad_share: float, draw: random.Random) -> Call:
    """Return a request drawn at random."""
    if draw.random() < bad_share:
        return draw.choice(_BAD)(material, model, draw)
    return draw.choice(_GOOD)(material, model, draw)


def images_of(count: int, side: int, seed: int) -> list[Image.Image]:
    """Return images that look different to any network: noise enlarged from a few pixels."""
    noise = np.random.default_rng(seed).integers(0, 256, (count, 6, 6, 3), dtype=np.uint8)
    return [Image.fromarray(n).resize((side, side), Image.Resampling.BICUBIC) for n in noise]


def png(image: Image.Image) -> bytes:
    """Return an image as the bytes of a PNG file."""
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


def _some(material: Material, draw: random.Random, most: int) -> tuple[int, ...]:
    return tuple(draw.randrange(len(material.files)) for _ in range(draw.randint(1, most)))


def _raw(material: Material, model: str, draw: random.Random) -> Call:
    (index,) = _some(material, draw, 1)
    headers = {"Content-Type": "image/png"}
    return Call("file", "/embed", material.files[index], headers, images=(index,), read=_from_embed)


def _form(material: Material, model: str, draw: random.Random) -> Call:
    chosen = _some(material, draw, 4)
    body, headers = _multipart([material.files[index] for index in chosen])
    return Call("form", "/embed", body, headers, images=chosen, read=_from_embed)


def _binary(material: Material, model: str, draw: random.Random) -> Call:
    chosen = _some(material, draw, 4)
    tensor, raw = _tensor(material.pixels[list(chosen)]), material.pixels[list(chosen)].tobytes()
    tensor["parameters"] = {"binary_data_size": len(raw)}
    asked = {"inputs": [tensor], "parameters": {"binary_data_output": True}}
    header = json.dumps(asked).encode()
    headers = {HEADER_LENGTH: str(len(header))}
    path = f"/v2/models/{model}/infer"
    return Call("binary", path, header + raw, headers, images=chosen, read=_from_binary)


def _not_an_image(material: Material, model: str, draw: random.Random) -> Call:
    return Call("no image", "/embed", draw.randbytes(500), {"Content-Type": "image/png"}, 400)


def _truncated(material: Material, model: str, draw: random.Random) -> Call:
    half = material.files[0][: len(material.files[0]) // 2]
    return Call("truncated", "/embed", half, {"Content-Type": "image/png"}, 400)


def _one_bad_of_a_form(material: Material, model: str, draw: random.Random) -> Call:
    body, headers = _multipart([material.files[0], b"not an image", material.files[1]])
    return Call("one bad of three", "/embed", body, headers, 400)


def _bomb(material: Material, model: str, draw: random.Random) -> Call:
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + header
    body = struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
    bomb = b"\x89PNG\r\n\x1a\n" + body + material.files[0][33:]
    return Call("bomb", "/embed", bomb, {"Content-Type": "image/png"}, 413)


def _wrong_shape(material: Material, model: str, draw: random.Random) -> Call:
    asked = json.dumps({"inputs": [{**_tensor(material.pixels[:1, :5]), "data": [0] * 9}]})
    return Call("wrong shape", f"/v2/models/{model}/infer", asked.encode(), status=400)


def _no_json(material: Material, model: str, draw: random.Random) -> Call:
    return Call("no JSON", f"/v2/models/{model}/infer", b'{"inputs": [', status=400)


def _no_model(material: Material, model: str, draw: random.Random) -> Call:
    return Call("no such model", "/v2/models/nobody/infer", b"{}", status=404)


_GOOD = (_raw, _form, _binary)
_BAD = (
    _not_an_image,
    _truncated,
    _one_bad_of_a_form,
    _bomb,
    _wrong_shape,
    _no_json,
    _no_model,
)


def _tensor(pixels: np.ndarray) -> dict[str, object]:
    return {"name": "images", "shape": list(pixels.shape), "datatype": "UINT8"}


def _multipart(files: Sequence[bytes]) -> tuple[bytes, dict[str, str]]:
    parts = [
        f'--edge\r\nContent-Disposition: form-data; name="image"; filename="{index}.png"'
        "\r\n\r\n".encode()
        + content
        + b"\r\n"
        for index, content in enumerate(files)
    ]
    return b"".join((*parts, b"--edge--\r\n")), {
        "Content-Type": "multipart/form-data; boundary=edge"
    }


def _from_embed(body: bytes, _: Mapping[str, str]) -> np.ndarray:
    return np.array([item["embedding"] for item in json.loads(body)["embeddings"]], np.float32)


def _from_binary(body: bytes, headers: Mapping[str, str]) -> np.ndarray:
    length = int(headers[HEADER_LENGTH])
    shape = json.loads(body[:length])["outputs"][0]["shape"]
    return np.frombuffer(body[length:], "<f4").reshape(shape)

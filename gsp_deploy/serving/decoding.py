"""The loop of a decoder's process, and the messages that it exchanges with the server.

Messages are MessagePack and not pickle, so a compromised decoder cannot run code in the server.
"""

from __future__ import annotations

import logging
import signal
import warnings
from dataclasses import dataclass
from multiprocessing.connection import Connection

import msgspec
import numpy as np

from gsp_deploy.base.memory import limit_memory
from gsp_deploy.config import PreprocessingSpec
from gsp_deploy.errors import RequestError
from gsp_deploy.serving.uploads import announced_pixels, decode_uploads, uploads_in

READY = b"ready"
# Memory of a decoder: the largest image in its file's format, in RGB and in float32, and the rest.
BYTES_PER_PIXEL = 24
OTHER_BYTES = 1 << 30


@dataclass(frozen=True)
class DecodingLimits:
    """Limits of one request in a decoder, and how it decodes.

    Attributes:
        max_files: files in one request.
        max_pixels: pixels of one image.
        max_request_pixels: pixels of all images of a request.
        light_pixels: pixels of all images of a light request.
        reduced_jpeg: decode large JPEG files at a fraction of their size.
    """

    max_files: int
    max_pixels: int
    max_request_pixels: int
    light_pixels: int
    reduced_jpeg: bool = False


class Job(msgspec.Struct, frozen=True):
    """A request's body, and whether it may be a heavy one."""

    body: bytes
    content_type: str
    heavy: bool


class Decoded(msgspec.Struct, frozen=True, tag=True):
    """The images of a request at the model's size, with the files' names."""

    names: list[str]
    shape: tuple[int, int, int, int]
    pixels: bytes

    @property
    def images(self) -> np.ndarray:
        """The images, uint8 `(n, height, width, 3)`."""
        return np.frombuffer(self.pixels, np.uint8).reshape(self.shape)


class Refused(msgspec.Struct, frozen=True, tag=True):
    """Why the files were not decoded: an HTTP code and one line."""

    status: int
    line: str


class TooHeavy(msgspec.Struct, frozen=True, tag=True):
    """The request has too many pixels to be light; nothing was decoded."""

    pixels: int


encode_job = msgspec.msgpack.Encoder().encode
decode_answer = msgspec.msgpack.Decoder(Decoded | Refused | TooHeavy).decode


def decode_in_process(pipe: Connection, spec: PreprocessingSpec, limits: DecodingLimits) -> None:
    """Answer jobs until the pipe ends; the parent ends this process when a job takes too long."""
    for number in (signal.SIGINT, signal.SIGTERM):  # the parent decides when it is over
        signal.signal(number, signal.SIG_IGN)
    # A parser's warnings go to the client and not to the log, which would grow with every request.
    logging.getLogger("python_multipart").setLevel(logging.CRITICAL)
    warnings.simplefilter("ignore")
    limit_memory(BYTES_PER_PIXEL * limits.max_pixels + OTHER_BYTES)
    read, write = msgspec.msgpack.Decoder(Job).decode, msgspec.msgpack.Encoder().encode
    try:
        pipe.send_bytes(READY)
        while True:
            pipe.send_bytes(write(answer(read(pipe.recv_bytes()), spec, limits)))
    except (EOFError, OSError):
        return


def answer(
    job: Job, spec: PreprocessingSpec, limits: DecodingLimits
) -> Decoded | Refused | TooHeavy:
    """Return the images of a request, or why there are none."""
    try:
        uploads = uploads_in(job.body, job.content_type, limits.max_files)
        pixels = announced_pixels(uploads, limits.max_pixels)
        if pixels > limits.max_request_pixels:
            raise RequestError(
                413,
                f"expected at most {limits.max_request_pixels:,} pixels in all images of a "
                f"request, got {pixels:,}; send fewer or smaller images",
            )
        if pixels > limits.light_pixels and not job.heavy:
            return TooHeavy(pixels)
        images = decode_uploads(uploads, spec, limits.max_pixels, reduced_jpeg=limits.reduced_jpeg)
    except RequestError as error:
        return Refused(error.status, str(error))
    except MemoryError:
        return Refused(413, "decoding takes more memory than a request may; send smaller images")
    shape = tuple(int(size) for size in images.shape)
    return Decoded([u.name for u in uploads], shape, images.tobytes())  # type: ignore[arg-type]

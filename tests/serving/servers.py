"""A model whose answers tell which image they are of, and servers of it on a real socket."""

from __future__ import annotations

import http.client
import io
import json
import math
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from PIL import Image

from gsp_deploy import PreprocessingSpec
from gsp_deploy.artifact import TensorSpec
from gsp_deploy.errors import RequestError, UsageError
from gsp_deploy.runtime import EmbeddingSession, SessionOptions
from gsp_deploy.runtime.session import SessionInfo
from gsp_deploy.serving import (
    EmbeddingServer,
    EmbeddingService,
    ServingSettings,
    address_of,
    listen,
)
from gsp_deploy.serving.keys import ApiKeys
from gsp_deploy.serving.routes import JSON, ROUTES

SIDE = 4
POISON = 255  # an image that begins with it cannot be run


class TellingSession(EmbeddingSession):
    """Embeds an image as its first three pixels; records its batches, and can be held up.

    Attributes:
        batches: the first pixel of each image, a list a batch.
        go: while cleared, inference waits.
        started: set when an inference has begun.
    """

    def __init__(self, sizes: tuple[int | str, int | str] = (SIDE, SIDE)) -> None:
        spec = PreprocessingSpec(SIDE, SIDE, resize="stretch")
        tensor = TensorSpec("images", "uint8", ("batch", *sizes, 3))
        info = SessionInfo(
            Path("telling.onnx"), "fake 1", "cpu", "fp32", tensor, ("embedding",), 3, spec
        )
        super().__init__(info, SessionOptions())
        self.batches: list[list[int]] = []
        self.go, self.started = threading.Event(), threading.Event()
        self.go.set()

    def infer(self, inputs: np.ndarray, outputs: Sequence[str]) -> Mapping[str, np.ndarray]:
        self.started.set()
        assert self.go.wait(60)
        flat = inputs.reshape(len(inputs), math.prod(inputs.shape[1:]))
        if (flat[:, 0] == POISON).any():
            raise UsageError("poisoned")
        self.batches.append(flat[:, 0].tolist())
        return {"embedding": flat[:, :3].astype(np.float32)}

    def close(self) -> None:
        self.closed = True


def tried(function: Callable[..., Any], *arguments: Any) -> Any:
    """Return what a function returns, or None if it refuses a request as the client's mistake."""
    try:
        return function(*arguments)
    except RequestError as error:
        if not 400 <= error.status < 500 or "\n" in str(error):
            raise AssertionError(f"{error.status} {error}") from error
        return None


@dataclass
class Reply:
    """What came back: HTTP's code, the headers and the body."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> str:
        """The one line that says what is wrong."""
        line = self.json["error"]
        assert line
        assert "\n" not in line
        return str(line)


@dataclass
class RunningServer:
    """A server in a thread of this process."""

    url: str
    service: EmbeddingService
    server: EmbeddingServer
    session: Any

    def ask(self, method: str, path: str, body: bytes = b"", **headers: str) -> Reply:
        """Send one request; header names are written with underscores."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=60)
        try:
            connection.request(method, path, body, named)
            response = connection.getresponse()
            reply = Reply(response.status, dict(response.headers), response.read())
            check_documented(method, path, reply)
            return reply
        finally:
            connection.close()

    def embed(self, content: bytes, **headers: str) -> Reply:
        return self.ask("POST", "/embed", content, **headers)

    def infer(self, document: object, path: str = "/v2/models/m/infer") -> Reply:
        return self.ask("POST", path, json.dumps(document).encode())

    def counted(self, line: str) -> float:
        """Return the value of one line of /metrics."""
        found = self.ask("GET", "/metrics").body.decode().splitlines()
        return next((float(x.rpartition(" ")[2]) for x in found if x.startswith(line + " ")), 0.0)


def check_documented(method: str, path: str, reply: Reply) -> None:
    """Fail unless the routes' table has this reply's code and content type."""
    path = path.replace("/models/m", "/models/{model}")
    for route in ROUTES:
        if (route.method, route.path) == (method, path):
            kind = reply.headers.get("content-type", "").partition(";")[0]
            if reply.status == 200:
                assert kind in route.content if route.content else not kind
            else:
                assert (reply.status, kind) in {
                    *((code, "") for code in route.bare),
                    *((code, JSON) for code in (*route.refusals, 401, 429)),
                }


@contextmanager
def running_server(
    session: EmbeddingSession, keys: ApiKeys | None = None, **settings: Any
) -> Iterator[RunningServer]:
    chosen = ServingSettings(**{"window_ms": 0.0, **settings})
    service = EmbeddingService(session, "m", chosen, keys)
    with listen("127.0.0.1", 0) as listener:
        server = EmbeddingServer(service, chosen)
        url = address_of(listener)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            while thread.is_alive() and not server.started:
                thread.join(0.01)
            yield RunningServer(url, service, server, session)
        finally:
            server.should_exit = True
            thread.join(30)
            assert not thread.is_alive()


def png(value: int, size: tuple[int, int] = (SIDE, SIDE)) -> bytes:
    """Return a PNG of one grey value."""
    stream = io.BytesIO()
    Image.new("RGB", size, (value, value, value)).save(stream, "PNG")
    return stream.getvalue()


def form(*files: tuple[str, bytes]) -> tuple[bytes, str]:
    """Return a multipart body of files, and its content type."""
    parts = [
        b'--edge\r\nContent-Disposition: form-data; name="image"; filename="'
        + name.encode()
        + b'"\r\nContent-Type: image/png\r\n\r\n'
        + content
        + b"\r\n"
        for name, content in files
    ]
    return b"".join(parts) + b"--edge--\r\n", "multipart/form-data; boundary=edge"

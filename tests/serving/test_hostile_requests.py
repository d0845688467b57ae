"""Requests of any shape, type, number, header and text: 200 or one line of 4xx, in valid JSON."""

from __future__ import annotations

import json
import logging
import math
import socket
from urllib.parse import urlsplit

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gsp_deploy.serving.kserve import HEADER_LENGTH

from .servers import SIDE, RunningServer, TellingSession, running_server
from .test_app import infer_document

PIXELS = SIDE * SIDE * 3
MANY = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module")
def server():
    with running_server(TellingSession(), decoders=1, max_batch=2, queue_limit=4) as running:
        yield running


@pytest.fixture(autouse=True)
def no_fault_of_ours(caplog: pytest.LogCaptureFixture):
    """Fail if a request of the test made the server write an error."""
    yield
    assert not [r for r in caplog.records if r.levelno >= logging.ERROR or r.exc_info]


def is_answered(reply) -> None:
    if reply.status != 200:
        assert 400 <= reply.status < 500
        assert reply.error
    elif reply.headers["content-type"] == "application/json":
        json.loads(reply.body, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


NUMBERS = st.one_of(
    st.integers(-2, 300),
    st.sampled_from([2**31, 2**63, 10**18, 10**30, 10**400, -(10**30), True, None, "1"]),
    st.floats(allow_nan=False, allow_infinity=False),
)
TEXT = st.text(max_size=12) | st.sampled_from(["\ud800", "shared_memory\ud800", "a\nb", "\x00"])
SHAPES = st.lists(NUMBERS, max_size=9) | st.sampled_from(
    [[1, SIDE, SIDE, 3], [0, 10**18, 10**18, 48], [10**18, 0, 48, 48], [2**63, 0], 3, "4", None]
)
PARAMETERS = st.dictionaries(
    TEXT | st.sampled_from(["binary_data_size", "binary_data", "classification"]), NUMBERS,
    max_size=3,
) | NUMBERS  # fmt: skip


@MANY
@given(
    shape=SHAPES,
    datatype=st.sampled_from(["UINT8", "FP16", "FP32", "FP64", "BYTES", 3, None]) | TEXT,
    data=st.lists(NUMBERS, max_size=4) | st.just([5] * PIXELS) | TEXT,
    parameters=PARAMETERS,
    identity=TEXT | NUMBERS,
    outputs=st.lists(st.fixed_dictionaries({"name": TEXT | st.just("embedding")}), max_size=3),
)
def test_documents(server, shape, datatype, data, parameters, identity, outputs) -> None:
    tensor = {"name": "images", "shape": shape, "datatype": datatype, "data": data}
    document = {"inputs": [{**tensor, "parameters": parameters}], "id": identity,
                "outputs": outputs, "parameters": parameters}  # fmt: skip
    is_answered(server.infer(document))
    del document["inputs"][0]["parameters"], document["parameters"]
    is_answered(server.infer(document))


@MANY
@given(
    length=st.one_of(
        st.integers(-5, 10**20).map(str),
        st.sampled_from(["1" * 5000, "1e3", "+1", "0x10", "\xb2", "", "1, 1"]),
    ),
    size=NUMBERS,
    sent=st.integers(0, 2 * PIXELS),
)
def test_binary_tensors(server: RunningServer, length, size, sent) -> None:
    document = infer_document(1, parameters={"binary_data_size": size})
    del document["inputs"][0]["data"]
    text = json.dumps(document).encode()
    for header in (length, str(len(text))):
        body = text + bytes(sent)
        is_answered(
            server.ask(
                "POST", "/v2/models/m/infer", body, **{HEADER_LENGTH.replace("-", "_"): header}
            )
        )


@MANY
@given(
    names=st.lists(st.sampled_from(["Accept", "Content-Encoding", "Content-Type", "X-API-Key",
                                    "Authorization", "Expect", HEADER_LENGTH]), max_size=4),
    values=st.lists(st.text(st.characters(min_codepoint=33, max_codepoint=255), max_size=40),
                    min_size=4, max_size=4),
    body=st.binary(max_size=80),
    path=st.sampled_from(["/embed", "/v2/models/m/infer"]),
)  # fmt: skip
def test_headers(server: RunningServer, names, values, body, path) -> None:
    headers = {name.replace("-", "_"): value for name, value in zip(names, values, strict=False)}
    headers.pop("Expect", None)
    is_answered(server.ask("POST", path, body, **headers))


@MANY
@given(st.lists(st.binary(max_size=30), max_size=6), st.binary(max_size=8))
def test_chunked_bodies(server: RunningServer, chunks, damage) -> None:
    """A body in chunks, and bytes that are no chunk after it: an answer, or the connection ends."""
    with socket.create_connection(urlsplit(server.url).netloc.split(":"), 30) as connection:
        framed = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks if chunk)
        connection.sendall(
            b"POST /v2/models/m/infer HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
            b"Connection: close\r\n\r\n" + framed + damage + b"0\r\n\r\n"
        )
        connection.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: connection.recv(4096), b""))
    assert not answer or answer.startswith((b"HTTP/1.1 4", b"HTTP/1.1 200"))


@pytest.mark.parametrize(
    "head",
    [
        b"POST /embed HTTP/1.1\r\nHost: x\r\nContent-Length: " + b"1" * 5000,
        b"POST /embed HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999",
        b"POST /embed HTTP/1.1\r\nHost: x\r\nContent-Length: -1",
        b"POST /embed HTTP/1.1\r\nHost: x\r\nContent-Length: \xb2",
        b"POST /embed HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6",
        b"GET /v2/models/%ff%00%0a HTTP/1.1\r\nHost: x",
        b"GET /\xff HTTP/1.1\r\nHost: x",
        b"GET " + b"/a" * 40_000 + b" HTTP/1.1\r\nHost: x",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
)
def test_heads_that_are_no_request(server: RunningServer, head: bytes) -> None:
    with socket.create_connection(urlsplit(server.url).netloc.split(":"), 30) as connection:
        connection.sendall(head + b"\r\nConnection: close\r\n\r\n")
        assert connection.recv(4096).startswith(b"HTTP/1.1 4")


class OverflowingSession(TellingSession):
    """Gives an embedding that is not finite for an image that begins with 9."""

    def infer(self, inputs, outputs):
        found = super().infer(inputs, outputs)["embedding"].copy()
        found[found[:, 0] == 9, 1] = math.inf
        found[found[:, 0] == 9, 2] = math.nan
        return {"embedding": found}


@pytest.mark.parametrize("binary", [True, False])
def test_outputs_that_are_not_finite_are_refused_and_no_others(start, binary: bool) -> None:
    running = start(OverflowingSession())
    wanted = [{"name": "embedding", "parameters": {"binary_data": binary}}]
    refused = running.infer({**infer_document(1, 9), "outputs": wanted})
    assert refused.status == 422
    assert "the embedding of image 1 is not finite" in refused.error
    assert running.infer({**infer_document(1, 8), "outputs": wanted}).status == 200


def test_a_reply_that_would_be_too_long_is_refused_before_it_is_written(start, monkeypatch) -> None:
    running = start(max_reply_bytes=3 * 26 * 2)
    assert running.infer(infer_document(1, 2)).status == 200
    monkeypatch.setattr("gsp_deploy.serving.kserve.write_infer", lambda *_: pytest.fail("written"))
    refused = running.infer(infer_document(1, 2, 3))
    assert refused.status == 413
    assert "the reply could take 234 bytes, the limit is 156" in refused.error


def test_numbers_in_json_are_as_long_as_the_limit_supposes() -> None:
    from gsp_deploy.serving.json_numbers import json_from_array
    from gsp_deploy.serving.kserve import LONGEST_NUMBER

    draw = np.random.default_rng(0).integers(0, 2**32, 200_000, dtype=np.uint32)
    values = draw.view(np.float32)
    values = values[np.isfinite(values)]
    longest = max(map(len, json_from_array(values)[1:-1].split(b",")))
    assert longest + 1 <= LONGEST_NUMBER


def test_more_images_than_ever_fit_are_refused_before_their_numbers_are_read(server) -> None:
    document = infer_document(1, shape=[5, SIDE, SIDE, 3], data="never read")
    assert server.infer(document).status == 413


def test_an_output_is_given_once(server: RunningServer) -> None:
    twice = {**infer_document(1), "outputs": [{"name": "embedding"}] * 2}
    assert server.infer(twice).status == 400

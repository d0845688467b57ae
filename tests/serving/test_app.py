"""The server over real HTTP: what it answers, what it refuses, and what it does under pressure."""

from __future__ import annotations

import io
import json
import signal
import socket
import struct
import threading
import time
import zlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from urllib.parse import urlsplit

import numpy as np
import pytest

from gsp_deploy.errors import GspDeployError, UsageError
from gsp_deploy.serving import EmbeddingService, ServingSettings, listen, serve
from gsp_deploy.serving.decoder_process import DecoderProcess

from .servers import POISON, SIDE, RunningServer, TellingSession, form, png


@pytest.fixture(scope="module")
def server():
    from .servers import running_server

    with running_server(TellingSession(), max_body_bytes=4000, max_pixels=10_000) as running:
        yield running


def infer_document(*values: int, **changes: object) -> dict:
    data = [v for value in values for v in [value] * SIDE * SIDE * 3]
    tensor = {"name": "images", "shape": [len(values), SIDE, SIDE, 3], "datatype": "UINT8"}
    return {"inputs": [{**tensor, "data": data, **changes}]}


def announcing_png(width: int, height: int) -> bytes:
    """Return a PNG whose header announces a size, with hardly any data behind it."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IDAT", zlib.compress(bytes(100)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + body + chunk(b"IEND", b"")


def test_an_image_as_the_body(server: RunningServer) -> None:
    reply = server.embed(png(7), Content_Type="image/png")
    assert reply.status == 200
    assert reply.json == {
        "model": "m",
        "precision": "fp32",
        "embedding_dim": 3,
        "embeddings": [{"file": "body", "embedding": [7.0, 7.0, 7.0]}],
    }


def test_files_of_a_form_keep_their_order_and_names(server: RunningServer) -> None:
    body, kind = form(("a.png", png(1)), ("ü.png", png(2)), ("a.png", png(3)))
    found = server.embed(body, Content_Type=kind).json["embeddings"]
    assert [(f["file"], f["embedding"][0]) for f in found] == [
        ("a.png", 1),
        ("ü.png", 2),
        ("a.png", 3),
    ]


def test_embeddings_as_npy(server: RunningServer) -> None:
    body, kind = form(("a", png(1)), ("b", png(2)))
    reply = server.embed(body, Content_Type=kind, Accept="application/x-npy")
    assert reply.headers["content-type"] == "application/x-npy"
    assert np.load(io.BytesIO(reply.body)).tolist() == [[1, 1, 1], [2, 2, 2]]


@pytest.mark.parametrize(
    ("content", "kind", "status", "named"),
    [
        (b"no image", "image/png", 400, "body: not an image"),
        (png(1)[:50], "image/png", 400, "body: damaged image"),
        (b"", "image/png", 400, "got nothing"),
        (b"{}", "application/json", 415, "application/json"),
        (b"", "multipart/form-data; boundary=x", 400, "files in the form"),
        (b"x", "multipart/form-data", 400, "form"),
        (b"--x\r\nbroken", "multipart/form-data; boundary=x", 400, "form"),
        (bytes(5000), "image/png", 413, "at most 4,000 bytes"),
        (announcing_png(50_000, 50_000), "image/png", 413, "50000x50000|limit"),
        (announcing_png(101, 100), "image/png", 413, "101x100"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "image/png", 400, "not an image"),
    ],
)
def test_what_is_no_usable_image(server, content, kind, status, named) -> None:
    reply = server.embed(content, Content_Type=kind)
    assert reply.status == status
    assert any(word in reply.error for word in named.split("|"))


def test_a_bad_file_of_a_form_is_named(server: RunningServer) -> None:
    body, kind = form(("good.png", png(1)), ("bad.png", b"x"))
    reply = server.embed(body, Content_Type=kind)
    assert (reply.status, reply.error[:8]) == (400, "bad.png:")


def test_a_compressed_body_is_refused_unopened(server: RunningServer) -> None:
    reply = server.embed(zlib.compress(bytes(10**6)), Content_Encoding="deflate")
    assert reply.status == 415
    assert "deflate" in reply.error


def test_a_body_of_unknown_length_is_cut_at_the_limit(server: RunningServer) -> None:
    with socket.create_connection(urlsplit(server.url).netloc.split(":"), 30) as connection:
        connection.sendall(
            b"POST /embed HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n"
        )
        for _ in range(5):
            connection.sendall(b"3e8\r\n" + bytes(1000) + b"\r\n")
        assert b" 413 " in connection.recv(4096).splitlines()[0]


def test_inference_in_json(server: RunningServer) -> None:
    reply = server.infer({"id": "one", **infer_document(5, 6)})
    assert reply.status == 200
    assert reply.json == {
        "model_name": "m",
        "model_version": "1",
        "id": "one",
        "outputs": [
            {"name": "embedding", "datatype": "FP32", "shape": [2, 3], "data": [5, 5, 5, 6, 6, 6]}
        ],
    }
    versioned = server.infer(infer_document(5), "/v2/models/m/versions/1/infer")
    assert versioned.status == 200


def test_no_images_give_no_embeddings(server: RunningServer) -> None:
    assert server.infer(infer_document()).json["outputs"][0]["shape"] == [0, 3]


def test_metadata_and_health(server: RunningServer) -> None:
    assert server.ask("GET", "/v2").json["extensions"] == ["binary_tensor_data"]
    described = server.ask("GET", "/v2/models/m").json
    assert described["inputs"] == [
        {"name": "images", "datatype": "UINT8", "shape": [-1, SIDE, SIDE, 3]}
    ]
    assert described["outputs"] == [{"name": "embedding", "datatype": "FP32", "shape": [-1, 3]}]
    for path in ("/v2/health/live", "/v2/health/ready", "/v2/models/m/ready"):
        assert server.ask("GET", path).status == 200


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_another_model_or_path_is_not_found(server: RunningServer, method: str) -> None:
    assert "only 'm'" in server.ask(method, f"/v2/models/x{'/infer' * (method == 'POST')}").error
    assert server.ask(method, "/v3").status == 404


def test_a_failure_of_one_request_is_its_own(server: RunningServer) -> None:
    reply = server.infer(infer_document(POISON))
    assert (reply.status, reply.error) == (400, "poisoned")
    assert server.embed(png(1)).status == 200


def test_a_failure_that_is_not_ours_gives_no_details(start) -> None:
    running = start()

    def fail(*_: object) -> None:
        raise RuntimeError("secret")

    running.session.infer = fail
    reply = running.embed(png(1))
    assert reply.status == 500
    assert "secret" not in reply.error


def test_a_full_queue_gives_503_and_a_time_to_come_back(start) -> None:
    running = start(max_batch=1, queue_limit=2)
    running.session.go.clear()
    with ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(running.embed, png(v)) for v in (1, 2)]
        wait_until(lambda: running.service.admission.images == 2)
        refused = running.embed(png(3))
        assert refused.status == 503
        assert int(refused.headers["retry-after"]) >= 1
        assert running.ask("GET", "/v2/health/live").status == 200
        running.session.go.set()
        assert sorted(w.result().json["embeddings"][0]["embedding"][0] for w in waiting) == [1, 2]
    assert running.embed(png(3)).status == 200
    assert running.counted('gsp_requests_total{code="503",route="embed"}') == 1
    assert running.counted("gsp_accepted_images") == running.counted("gsp_buffered_bytes") == 0


def test_more_images_than_ever_fit_are_not_asked_to_come_back(start) -> None:
    reply = start(max_batch=1, queue_limit=2).infer(infer_document(1, 2, 3))
    assert (reply.status, "retry-after" in reply.headers) == (413, False)


def test_bodies_that_together_are_too_much(start) -> None:
    running = start(max_body_bytes=1000, max_buffered_bytes=1000)
    running.session.go.clear()
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(running.embed, png(1) + bytes(800))
        wait_until(lambda: running.service.admission.images == 1)
        assert running.embed(png(2) + bytes(800)).status == 503
        running.session.go.set()
        assert first.result().status == 200
    assert running.embed(png(2) + bytes(800)).status == 200


def test_a_request_that_is_not_answered_in_time(start) -> None:
    running = start(timeout_s=0.2)
    running.session.go.clear()
    reply = running.embed(png(1))
    running.session.go.set()
    assert reply.status == 504
    assert "0.2 s" in reply.error
    wait_until(lambda: running.embed(png(2)).status == 200)  # a busy machine may need a few


def test_a_request_that_does_not_arrive_in_time(start) -> None:
    running = start(timeout_s=0.2)
    with socket.create_connection(urlsplit(running.url).netloc.split(":"), 30) as connection:
        connection.sendall(b"POST /embed HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nabc")
        assert b" 408 " in connection.recv(4096).splitlines()[0]


def test_a_client_that_goes_away_costs_no_inference(start) -> None:
    running = start(max_batch=1)
    running.session.go.clear()
    running.session.started.clear()  # which the warm-up has set
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(running.embed, png(1))
        assert running.session.started.wait(30)
        with socket.create_connection(urlsplit(running.url).netloc.split(":"), 30) as connection:
            content = png(2)
            connection.sendall(
                b"POST /embed HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(content)
                + content
            )
            wait_until(lambda: running.service.admission.images == 2)
        wait_until(lambda: running.service.admission.images == 1)
        running.session.go.set()
        assert first.result().status == 200
    assert running.embed(png(3)).status == 200
    warm_up = [[0], [0]]
    assert running.session.batches == [*warm_up, [1], [3]]
    assert running.counted('gsp_requests_total{code="499",route="embed"}') == 1


def test_a_server_that_stops_answers_what_it_has_accepted(start) -> None:
    running = start(max_batch=1)
    running.session.go.clear()
    with ThreadPoolExecutor(4) as pool:
        waiting = [pool.submit(running.embed, png(v)) for v in range(4)]
        wait_until(lambda: running.service.admission.images == 4)
        running.server.handle_exit(signal.SIGINT, None)
        wait_until(lambda: running.service.admission.is_draining)
        running.session.go.set()
        assert {w.result().status for w in waiting} == {200}


def test_after_sigterm_it_is_not_ready_but_serves_for_a_while(start) -> None:
    running = start(linger_s=60)
    running.server.handle_exit(signal.SIGTERM, None)
    assert running.ask("GET", "/v2/health/ready").status == 503
    assert running.ask("GET", "/v2/health/live").status == 200
    reply = running.embed(png(1))
    assert (reply.status, reply.headers["connection"]) == (200, "close")


def test_while_draining_nothing_new_is_taken(start) -> None:
    running = start()
    running.service.admission.is_draining = True
    refused = running.embed(png(1))
    assert (refused.status, refused.headers["retry-after"]) == (503, "1")


def test_metrics_count_images_and_batches(start) -> None:
    running = start()
    for value in range(3):
        running.embed(png(value))
    running.embed(b"x")
    assert running.counted("gsp_images_total") == 3
    assert running.counted("gsp_batch_images_count") == 3
    assert running.counted('gsp_requests_total{code="200",route="embed"}') == 3
    assert running.counted('gsp_requests_total{code="400",route="embed"}') == 1
    assert running.counted('gsp_model{name="m",precision="fp32",runtime="fake 1 cpu"}') == 1


def test_a_model_that_takes_no_files_says_so(start) -> None:
    session = TellingSession()
    object.__setattr__(session.info, "preprocessing", None)
    running = start(session)
    assert "/v2/models/m/infer" in running.embed(png(1)).error
    assert running.infer(infer_document(3)).status == 200


def wait_until(holds, seconds: float = 30.0) -> None:
    """Wait for a condition that another thread brings about."""
    pause, end = threading.Event(), time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "waited in vain"
        pause.wait(0.005)


def test_the_openapi_document_is_there(server: RunningServer) -> None:
    assert "/embed" in json.loads(server.ask("GET", "/openapi.json").body)["paths"]


class CertifiedSession(TellingSession):
    """One that also says how far off it is: a thousandth of the first pixel, NaN for 200."""

    def __init__(self) -> None:
        super().__init__()
        self.info = replace(self.info, outputs=("embedding", "residual", "embedding_bound"))

    def infer(self, inputs: np.ndarray, outputs: Sequence[str]) -> Mapping[str, np.ndarray]:
        embedding = super().infer(inputs, outputs)["embedding"]
        residual = np.where(embedding[:, 0] == 200, np.nan, embedding[:, 0] / 1000)
        residual = residual.astype(np.float32)
        found = {"embedding": embedding, "residual": residual, "embedding_bound": residual**2}
        return {name: found[name] for name in outputs}


def test_each_image_has_its_residual_where_the_model_says_it(start) -> None:
    server = start(CertifiedSession())
    body, kind = form(("a", png(1)), ("b", png(200)), ("c", png(5)))
    found = server.embed(body, Content_Type=kind).json["embeddings"]
    assert [image["residual"] for image in found] == [pytest.approx(0.001), None,
                                                      pytest.approx(0.005)]  # fmt: skip


def test_badly_solved_images_are_counted_whatever_is_asked_for(start) -> None:
    server = start(CertifiedSession(), residual_alert=0.004)
    body, kind = form(("a", png(1)), ("b", png(200)), ("c", png(5)))
    server.embed(body, Content_Type=kind)
    server.infer({**infer_document(3, 9), "outputs": [{"name": "embedding"}]})
    assert server.counted("gsp_badly_solved_images_total") == 3  # 200 is NaN, 5 and 9 are above
    assert server.counted("gsp_residual_count") == 4  # NaN would spoil the sum
    assert server.counted("gsp_residual_sum") == pytest.approx(0.018)
    assert server.counted('gsp_residual_bucket{le="0.001"}') <= 1


def test_a_model_without_a_residual_counts_none(server: RunningServer) -> None:
    assert "residual" not in server.embed(png(7)).json["embeddings"][0]
    assert server.counted("gsp_residual_count") == 0
    assert server.counted("gsp_badly_solved_images_total") == 0


def test_kserve_offers_the_residual_as_an_output(start) -> None:
    server = start(CertifiedSession())
    described = server.ask("GET", "/v2/models/m").json["outputs"]
    assert {"name": "residual", "datatype": "FP32", "shape": [-1]} in described
    asked = {**infer_document(3, 9), "outputs": [{"name": "residual"}]}
    (tensor,) = server.infer(asked).json["outputs"]
    assert tensor["shape"] == [2]
    assert tensor["data"] == pytest.approx([0.003, 0.009])
    not_a_number = {**infer_document(200), "outputs": [{"name": "residual"}]}
    assert "the residual of image 0 is not finite" in server.infer(not_a_number).error


def test_an_alert_limit_of_nothing_is_refused() -> None:
    with pytest.raises(UsageError, match="residual_alert must be above 0, got 0"):
        ServingSettings(residual_alert=0.0)


def test_a_server_that_cannot_start_its_decoders_says_so_in_one_line(monkeypatch) -> None:
    def fail(_: object) -> None:
        raise GspDeployError("no process")

    monkeypatch.setattr(DecoderProcess, "start", fail)
    settings = ServingSettings()
    with listen("127.0.0.1", 0) as listener, pytest.raises(GspDeployError, match="did not start"):
        serve(EmbeddingService(TellingSession(), "m", settings), listener, settings)

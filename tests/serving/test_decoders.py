"""Decoders: their answers, their budgets, and that a hostile image costs good ones nothing."""

from __future__ import annotations

import asyncio
import contextlib
import io
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from stuck_decoder import decode_or_get_stuck

from gsp_deploy import PreprocessingSpec
from gsp_deploy.data.photographs import photograph
from gsp_deploy.errors import RequestError
from gsp_deploy.images.preprocessing import load_image
from gsp_deploy.serving import ServingSettings, decoder_process, decoders
from gsp_deploy.serving.decoders import Decoders
from gsp_deploy.serving.decoding import Decoded, DecodingLimits, Job, Refused, TooHeavy, answer
from gsp_deploy.serving.metrics import Metrics

from .servers import SIDE, RunningServer, form, png
from .test_app import wait_until

SPEC = PreprocessingSpec(SIDE, SIDE, resize="stretch")
LIMITS = DecodingLimits(max_files=4, max_pixels=100, max_request_pixels=300, light_pixels=200)
FORM = "multipart/form-data; boundary=edge"


def job(*sizes: tuple[int, int], heavy: bool = False) -> Job:
    files = [(f"{place}.png", png(place, size)) for place, size in enumerate(sizes, 1)]
    return Job(form(*files)[0], FORM, heavy)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (job((10, 10), (10, 10)), Decoded),
        (job((10, 10), (10, 10), (1, 1)), TooHeavy),
        (job((10, 10), (10, 10), (1, 1), heavy=True), Decoded),
        (job((10, 10), (10, 10), (10, 10), heavy=True), Decoded),
        (job((10, 10), (10, 10), (10, 10), (1, 1), heavy=True), Refused),
        (job((10, 10), (10, 10), (10, 10), (1, 1)), Refused),
        (job((11, 10)), Refused),
        (job(*[(1, 1)] * 5), Refused),
    ],
)
def test_what_one_request_may_cost(asked, expected) -> None:
    found = answer(asked, SPEC, LIMITS)
    assert isinstance(found, expected)
    if isinstance(found, Refused):
        assert found.status == 413
    if isinstance(found, Decoded):
        assert found.images[:, 0, 0, 0].tolist() == list(range(1, len(found.names) + 1))


def test_large_jpeg_files_are_reduced_if_asked() -> None:
    file = io.BytesIO()
    photograph("coffee.png").save(file, "JPEG", quality=92)
    upload = Job(file.getvalue(), "image/jpeg", heavy=True)
    for reduced in (False, True):
        limits = ServingSettings(reduced_jpeg=reduced).decoding_limits
        found = answer(upload, SPEC, limits)
        assert isinstance(found, Decoded)
        file.seek(0)
        expected = load_image(file, SPEC, reduced=reduced)
        np.testing.assert_array_equal(found.images[0], expected)
    file.seek(0)
    assert (load_image(file, SPEC) != expected).any()


@pytest.fixture
def hostile(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let decoders of this test get stuck, and none be thought heavy by its time."""
    monkeypatch.setattr(decoder_process, "decode_in_process", decode_or_get_stuck)
    monkeypatch.setattr(decoders, "LIGHT_SECONDS", 3600.0)


def decoding(steps, **settings: object) -> Metrics:
    """Run steps with decoders, within a minute, and return the figures."""
    metrics = Metrics()

    async def run() -> None:
        chosen = ServingSettings(**settings)  # type: ignore[arg-type]
        async with Decoders(chosen, SPEC, metrics) as pool:
            await asyncio.wait_for(steps(pool), 60)

    asyncio.run(run())
    return metrics


def ended(metrics: Metrics) -> float:
    return metrics.decoders_ended._value.get()


async def first_pixel(pool: Decoders, value: int) -> int:
    found = await pool.decode(png(value), "image/png")
    return int(found.images[0, 0, 0, 0])


def test_a_request_beyond_its_seconds_is_refused_and_its_process_replaced(hostile) -> None:
    async def steps(pool: Decoders) -> None:
        with pytest.raises(RequestError, match=r"more than the 0.5 s that a request has") as caught:
            await pool.decode(b"STUCK", "image/png")
        assert caught.value.status == 413
        for _ in range(60):  # on a busy machine half a second may not be enough
            with contextlib.suppress(RequestError):
                assert await first_pixel(pool, 7) == 7
                return
        raise AssertionError("no image was decoded after it")

    assert ended(decoding(steps, decode_s=0.5, decoders=1)) >= 1


def test_a_light_request_that_takes_long_is_decoded_as_a_heavy_one(hostile, monkeypatch) -> None:
    monkeypatch.setattr(decoders, "LIGHT_SECONDS", 0.2)

    async def steps(pool: Decoders) -> None:
        found = await pool.decode(b"SLOW" + png(7), "image/png")
        assert found.images[0, 0, 0, 0] == 7

    assert ended(decoding(steps, decode_s=3600.0, decoders=1)) == 1


def test_stuck_requests_leave_a_process_to_the_others(hostile) -> None:
    async def steps(pool: Decoders) -> None:
        stuck = [asyncio.create_task(pool.decode(b"STUCK", "image/png")) for _ in range(6)]
        found = [await first_pixel(pool, value) for value in range(20)]
        assert found == list(range(20))
        assert not any(task.done() for task in stuck)
        for task in stuck:
            task.cancel()
        await asyncio.gather(*stuck, return_exceptions=True)
        assert await first_pixel(pool, 9) == 9

    decoding(steps, decode_s=3600.0, decoders=2)


def test_a_decoder_that_crashes_is_the_requests_fault_alone(hostile) -> None:
    async def steps(pool: Decoders) -> None:
        with pytest.raises(RequestError, match="a decoder crashed") as caught:
            await pool.decode(b"CRASH", "image/png")
        assert caught.value.status == 400
        assert await first_pixel(pool, 7) == 7

    assert ended(decoding(steps, decoders=1)) == 1


def test_what_nobody_waits_for_is_ended(hostile) -> None:
    async def steps(pool: Decoders) -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(pool.decode(b"STUCK", "image/png"), 0.1)
        assert await first_pixel(pool, 7) == 7

    decoding(steps, decode_s=3600.0, decoders=1)


def test_the_wait_of_light_requests_is_known(hostile) -> None:
    async def steps(pool: Decoders) -> None:
        assert pool.longest_wait == 0
        stuck = asyncio.create_task(pool.decode(b"HELD", "image/png"))
        await asyncio.sleep(0)
        waiting = asyncio.create_task(first_pixel(pool, 3))
        while pool.longest_wait < 0.05:
            await asyncio.sleep(0.01)
        stuck.cancel()
        assert await waiting == 3
        assert pool.longest_wait == 0

    decoding(steps, decode_s=3600.0, decoders=1)


def test_while_images_wait_for_too_long_the_server_is_not_ready(hostile, start) -> None:
    running: RunningServer = start(decoders=1, timeout_s=10.0, decode_s=3600.0)
    with ThreadPoolExecutor(2) as pool:
        held = [pool.submit(running.embed, b"HELD", Content_Type="image/png") for _ in range(2)]
        # One is stuck in the only process, so the other waits to be a light request.
        wait_until(lambda: running.ask("GET", "/v2/health/ready").status == 503)
        assert running.ask("GET", "/v2/health/live").status == 200
        assert {task.result().status for task in held} == {504}
    wait_until(lambda: running.ask("GET", "/v2/health/ready").status == 200)
    wait_until(lambda: running.embed(png(5)).status == 200)


def test_pixels_come_back_as_they_were_sent() -> None:
    noise = np.random.default_rng(0).integers(0, 256, 40).tolist()

    async def steps(pool: Decoders) -> None:
        body, kind = form(*((f"{v}", png(v)) for v in noise))
        found = await pool.decode(body, kind)
        assert found.images[:, 0, 0, 0].tolist() == noise
        assert found.names == [str(v) for v in noise]

    decoding(steps)

"""Batching: who goes together, in which order, and that nobody suffers for another."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence

import numpy as np
import pytest

from gsp_deploy.errors import UsageError
from gsp_deploy.serving import ServingSettings
from gsp_deploy.serving.batching import RESIDUAL, Batcher
from gsp_deploy.serving.limits import Admission
from gsp_deploy.serving.metrics import Metrics

from .servers import POISON, SIDE, TellingSession

LONG = 60_000.0  # ms: a window that a test would never sit through


def images(*values: int, side: int = SIDE) -> np.ndarray:
    """Return one image a value, its pixels all of that value."""
    array = np.empty((len(values), side, side, 3), np.uint8)
    array[:] = np.array(values)[:, None, None, None]
    return array


def batched(
    session: TellingSession, steps: Callable[[Batcher], Awaitable[None]], **settings: object
) -> None:
    """Run steps against a batcher of the session."""

    async def run() -> None:
        chosen, metrics = ServingSettings(**settings), Metrics()  # type: ignore[arg-type]
        async with Batcher(session, chosen, metrics, Admission(chosen, metrics)) as batcher:
            await asyncio.wait_for(steps(batcher), 30)

    asyncio.run(run())


async def ask(batcher: Batcher, *values: int, side: int = SIDE) -> Sequence[float]:
    found = await batcher.run(images(*values, side=side), ("embedding",))
    return found["embedding"][:, 0].tolist()


@pytest.fixture
def session() -> TellingSession:
    return TellingSession(("height", "width"))


def test_a_full_batch_does_not_wait_for_its_window(session: TellingSession) -> None:
    async def steps(batcher: Batcher) -> None:
        found = await asyncio.gather(*(ask(batcher, v) for v in range(8)))
        assert found == [[v] for v in range(8)]

    batched(session, steps, window_ms=LONG, max_batch=4)
    assert session.batches == [[0, 1, 2, 3], [4, 5, 6, 7]]


def test_a_window_that_ends_sends_a_part_of_a_batch(session: TellingSession) -> None:
    async def steps(batcher: Batcher) -> None:
        assert await ask(batcher, 1, 2) == [1, 2]

    batched(session, steps, window_ms=5, max_batch=4)
    assert session.batches == [[1, 2]]


def test_every_request_gets_its_own_rows_whatever_its_size(session: TellingSession) -> None:
    draw = np.random.default_rng(0)
    asked = [draw.integers(0, POISON, draw.integers(1, 6)).tolist() for _ in range(60)]

    async def steps(batcher: Batcher) -> None:
        assert await asyncio.gather(*(ask(batcher, *values) for values in asked)) == asked

    batched(session, steps, window_ms=1, max_batch=8)
    assert [v for batch in session.batches for v in batch] == [v for a in asked for v in a]
    assert max(map(len, session.batches)) <= 8


def test_sizes_do_not_mix_and_the_oldest_goes_first(session: TellingSession) -> None:
    async def steps(batcher: Batcher) -> None:
        waiting = [ask(batcher, v, side=4 if v % 2 else 8) for v in (1, 2, 3, 4, 5)]
        assert await asyncio.gather(*waiting) == [[1], [2], [3], [4], [5]]

    batched(session, steps, window_ms=1)
    assert session.batches == [[1, 3, 5], [2, 4]]


def test_what_is_cancelled_before_it_starts_never_runs(session: TellingSession) -> None:
    async def steps(batcher: Batcher) -> None:
        session.go.clear()
        first = asyncio.create_task(ask(batcher, 1))
        await asyncio.to_thread(session.started.wait, 30)
        gone, kept = (asyncio.create_task(ask(batcher, v)) for v in (2, 3))
        await asyncio.sleep(0)
        gone.cancel()
        session.go.set()
        assert await first == [1]
        assert await kept == [3]

    batched(session, steps, window_ms=0)
    assert session.batches == [[1], [3]]


def test_what_is_cancelled_takes_no_place_in_a_batch(session: TellingSession) -> None:
    async def steps(batcher: Batcher) -> None:
        gone = asyncio.create_task(ask(batcher, 1))
        await asyncio.sleep(0)
        gone.cancel()
        kept = asyncio.create_task(ask(batcher, 2))
        await asyncio.sleep(0.05)
        assert session.batches == []
        assert await asyncio.gather(kept, ask(batcher, 3)) == [[2], [3]]

    batched(session, steps, window_ms=LONG, max_batch=2)
    assert session.batches == [[2, 3]]


def test_requests_join_while_the_network_is_busy(session: TellingSession) -> None:
    async def steps(batcher: Batcher) -> None:
        session.go.clear()
        first = asyncio.create_task(ask(batcher, 1))
        await asyncio.to_thread(session.started.wait, 30)
        others = [asyncio.create_task(ask(batcher, v)) for v in range(2, 9)]
        await asyncio.sleep(0)
        session.go.set()
        await asyncio.gather(first, *others)

    batched(session, steps, window_ms=0)
    assert session.batches == [[1], [2, 3, 4, 5, 6, 7, 8]]


def test_one_bad_request_does_not_take_its_neighbours_along(session: TellingSession) -> None:
    async def steps(batcher: Batcher) -> None:
        waiting = [ask(batcher, v) for v in (1, POISON, 3)]
        good, bad, also_good = await asyncio.gather(*waiting, return_exceptions=True)
        assert (good, also_good) == ([1], [3])
        assert isinstance(bad, UsageError)
        assert await ask(batcher, 4) == [4]

    batched(session, steps, window_ms=1)


def test_a_request_beyond_a_batch_runs_alone_in_parts(session: TellingSession) -> None:
    async def steps(batcher: Batcher) -> None:
        found = await asyncio.gather(ask(batcher, *range(10)), ask(batcher, 11))
        assert found == [list(range(10)), [11]]

    batched(session, steps, window_ms=1, max_batch=4)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"max_batch": 0}, "max_batch"),
        ({"window_ms": -1}, "window_ms"),
        ({"window_ms": float("nan")}, "window_ms"),
        ({"timeout_s": 0}, "timeout_s"),
        ({"head_s": 0}, "head_s"),
        ({"keep_alive_s": float("inf")}, "keep_alive_s"),
        ({"queue_limit": 4, "max_batch": 8}, "queue_limit"),
        ({"max_buffered_bytes": 10}, "max_buffered_bytes"),
    ],
)
def test_settings_outside_their_domain(settings, named) -> None:
    with pytest.raises(UsageError, match=named):
        ServingSettings(**settings)


class TwoOutputs(TellingSession):
    """Has the first pixel of each image as a second output, negated; records what was asked."""

    def __init__(self) -> None:
        super().__init__(("height", "width"))
        object.__setattr__(self.info, "outputs", ("embedding", "negated"))
        self.asked: list[tuple[str, ...]] = []

    def infer(self, inputs: np.ndarray, outputs: Sequence[str]) -> dict[str, np.ndarray]:
        self.asked.append(tuple(outputs))
        found = dict(super().infer(inputs, outputs))
        found["negated"] = -found["embedding"][:, :1]
        return {name: found[name] for name in outputs}


def test_requests_that_want_other_outputs_go_in_other_batches() -> None:
    session = TwoOutputs()
    wanted = [("embedding",), ("negated",), ("embedding", "negated"), ("embedding",), ("negated",)]

    async def steps(batcher: Batcher) -> None:
        waiting = [batcher.run(images(v), outputs) for v, outputs in enumerate(wanted, 1)]
        for value, outputs, found in zip(
            range(1, 6), wanted, await asyncio.gather(*waiting), strict=True
        ):
            assert tuple(found) == outputs
            for name, array in found.items():
                assert array[0, 0] == (value if name == "embedding" else -value)

    batched(session, steps, window_ms=1)
    assert session.asked == [("embedding",), ("negated",), ("embedding", "negated")]
    assert session.batches == [[1, 4], [2, 5], [3]]


def test_the_residual_comes_along_once_and_is_counted() -> None:
    session = TwoOutputs()
    object.__setattr__(session.info, "outputs", ("embedding", "negated", RESIDUAL))
    infer = session.infer

    def with_residual(inputs: np.ndarray, outputs: Sequence[str]) -> dict[str, np.ndarray]:
        assert list(outputs).count(RESIDUAL) == 1
        found = infer(inputs, [name for name in outputs if name != RESIDUAL])
        return found | {RESIDUAL: np.linspace(0, 1, len(inputs))}

    session.infer = with_residual  # type: ignore[method-assign]
    chosen, metrics = ServingSettings(residual_alert=0.4), Metrics()

    async def run() -> None:
        async with Batcher(session, chosen, metrics, Admission(chosen, metrics)) as batcher:
            found = await batcher.run(images(1, 2, 3), ("negated",))
            assert set(found) == {"negated", RESIDUAL}
            found = await batcher.run(images(1), (RESIDUAL, "embedding"))
            assert set(found) == {"embedding", RESIDUAL}

    asyncio.run(run())
    figures = metrics.exposition().decode().splitlines()
    for line in (
        "gsp_badly_solved_images_total 2.0",
        "gsp_residual_count 4.0",
        "gsp_images_total 4.0",
        "gsp_batch_images_count 2.0",
        "gsp_batch_images_sum 4.0",
        "gsp_inference_seconds_count 2.0",
        "gsp_queue_seconds_count 2.0",
    ):
        assert line in figures
    (waited,) = (line for line in figures if line.startswith("gsp_queue_seconds_sum "))
    assert 0 < float(waited.split()[1]) < 30


def test_the_admission_learns_how_long_an_image_takes(session: TellingSession) -> None:
    learnt: list[tuple[int, float]] = []
    chosen, metrics = ServingSettings(window_ms=0), Metrics()
    admission = Admission(chosen, metrics)
    admission.learn = lambda *figures: learnt.append(figures)  # type: ignore[method-assign]

    async def run() -> None:
        async with Batcher(session, chosen, metrics, admission) as batcher:
            session.go.clear()
            asked = asyncio.create_task(ask(batcher, 1, 2, 3))
            await asyncio.sleep(0.05)
            session.go.set()
            assert await asked == [1, 2, 3]
            assert await ask(batcher) == []

    asyncio.run(run())
    assert [count for count, _ in learnt] == [3, 1]  # no image counts as one
    assert 0.03 < learnt[0][1] < 30


def test_at_the_end_the_running_batch_is_finished_and_the_others_are_cancelled(
    session: TellingSession,
) -> None:
    async def run() -> None:
        chosen, metrics = ServingSettings(window_ms=0, max_batch=1), Metrics()
        async with Batcher(session, chosen, metrics, Admission(chosen, metrics)) as batcher:
            session.go.clear()
            running = asyncio.create_task(ask(batcher, 1))
            await asyncio.to_thread(session.started.wait, 30)
            waiting = asyncio.create_task(ask(batcher, 2))
            await asyncio.sleep(0)
            asyncio.get_running_loop().call_later(0.05, session.go.set)
        assert asyncio.all_tasks() <= {running, waiting, asyncio.current_task()}
        done, _ = await asyncio.wait([running, waiting], timeout=5)
        assert waiting in done
        assert waiting.cancelled()
        running.cancel()

    asyncio.run(run())
    assert session.batches == [[1]]


def test_an_unexpected_failure_is_every_requests_own(session: TellingSession) -> None:
    """What is no error of this package is not tried again image by image."""
    tried: list[int] = []

    def break_down(inputs: np.ndarray, outputs: Sequence[str]) -> dict[str, np.ndarray]:
        tried.append(len(inputs))
        raise MemoryError

    session.infer = break_down  # type: ignore[method-assign]

    async def steps(batcher: Batcher) -> None:
        waiting = [ask(batcher, v) for v in (1, 2)]
        found = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(error) for error in found] == [MemoryError, MemoryError]

    batched(session, steps, window_ms=1)
    assert tried == [2]


def test_a_window_is_counted_from_the_oldest_request(session: TellingSession) -> None:
    async def steps(batcher: Batcher) -> None:
        started = time.monotonic()
        first = asyncio.create_task(ask(batcher, 1))
        await asyncio.sleep(0.1)
        second = asyncio.create_task(ask(batcher, 2))
        assert await asyncio.gather(first, second) == [[1], [2]]
        assert 1.4 < time.monotonic() - started < 20

    batched(session, steps, window_ms=1500)
    assert session.batches == [[1, 2]]

"""Percentiles, turns and stopping, with a clock that the test moves."""

from __future__ import annotations

import gc

import numpy as np
import pytest

from gsp_deploy.benchmark.timing import Latency, Rounds, interleave, turns


def test_percentiles_interpolate_linearly() -> None:
    latency = Latency.of(np.arange(101) / 1000)
    assert latency.rounds == 101
    found = (latency.min, latency.p50, latency.p90, latency.p95, latency.p99, latency.max)
    assert found == pytest.approx((0, 50, 90, 95, 99, 100))
    assert Latency.of(np.array([0.001, 0.003])).p50 == pytest.approx(2)


def test_percentiles_ignore_the_order_of_rounds() -> None:
    times = np.random.default_rng(0).exponential(size=200)
    shuffled = np.random.default_rng(1).permutation(times)
    assert Latency.of(times) == Latency.of(shuffled)


def test_every_task_is_first_equally_often() -> None:
    firsts = [turns(3, turn)[0] for turn in range(6)]
    assert firsts == [0, 1, 2, 0, 1, 2]
    assert all(sorted(turns(3, turn)) == [0, 1, 2] for turn in range(6))


def test_rounds_run_everything_in_rotated_order_and_times_stay_with_their_task(clock) -> None:
    tasks = [
        lambda: clock.advance("a", 1),
        lambda: clock.advance("b", 10),
        lambda: clock.advance("c", 100),
    ]
    times = interleave(tasks, Rounds(warmup=1, repeats=3), clock)
    assert "".join(clock.log) == "abc" + "abc" + "bca" + "cab"
    np.testing.assert_array_equal(times, [[1, 10, 100]] * 3)


def test_warmup_is_not_counted(clock) -> None:
    durations = iter([50, 50, 1, 2, 3])
    times = interleave(
        [lambda: clock.advance("a", next(durations))], Rounds(warmup=2, repeats=3), clock
    )
    np.testing.assert_array_equal(times[:, 0], [1, 2, 3])


@pytest.mark.parametrize(("seconds", "rounds"), [(25, 25), (24.5, 25), (3, 10)])
def test_a_timed_run_ends_after_its_seconds_and_ten_rounds(clock, seconds, rounds) -> None:
    times = interleave(
        [lambda: clock.advance("a", 1)], Rounds(warmup=0, repeats=1, seconds=seconds), clock
    )
    assert len(times) == rounds


def test_garbage_is_collected_again_after_an_error(clock) -> None:
    def fail() -> None:
        assert not gc.isenabled()
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        interleave([fail], Rounds(warmup=0, repeats=1), clock)
    assert gc.isenabled()

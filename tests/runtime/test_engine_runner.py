"""What a runner keeps between batches: buffers, contexts, CUDA graphs; on doubles of a device."""

from __future__ import annotations

import gc

import numpy as np
import pytest
from engine_bench import assert_same, maps, profile
from host_device import HostDevice

from gsp_deploy.errors import DeviceError
from gsp_deploy.runtime import engine_runner
from gsp_deploy.runtime.batching import batch_steps


def test_buffers_are_made_once_for_the_largest_batch(make_bench, expected) -> None:
    bench = make_bench()
    with bench.open() as session:
        session.embed(maps(2))
        before = len([call for call in bench.device.calls if call.startswith("allocate")])
        for count in (1, 8, 3, 20):
            assert_same(session, expected, maps(count), ("embedding",))
        assert before == len([c for c in bench.device.calls if c.startswith("allocate")])


def test_buffers_grow_with_the_images_and_graphs_follow(make_bench, expected) -> None:
    bench = make_bench(profile(1, 2, 4, size=(2, 2), most=(8, 8)))
    with bench.open() as session:
        for _ in range(3):
            assert_same(session, expected, maps(2, (2, 2)))
        assert bench.device.alive()["graphs"] == 1
        for _ in range(3):
            assert_same(session, expected, maps(2, (8, 8)))
        for seed in range(3):  # its buffers moved: the old graph must not be launched
            assert_same(session, expected, maps(2, (2, 2), seed=seed))
        assert bench.device.alive()["graphs"] == 2
    bench.nothing_is_left()


def test_a_session_survives_running_out_of_memory(make_bench, expected) -> None:
    bench = make_bench(
        profile(1, 2, 4, size=(2, 2), most=(40, 40)), device=HostDevice(memory=60_000), scratch=512
    )
    with bench.open() as session:
        assert_same(session, expected, maps(2, (2, 2)))
        with pytest.raises(DeviceError, match="cudaErrorMemoryAllocation"):
            session.embed(maps(2, (40, 40)))
        assert_same(session, expected, maps(2, (2, 2)))
    bench.nothing_is_left()


def test_a_shape_is_captured_when_it_comes_again(make_bench) -> None:
    bench = make_bench()
    with bench.open() as session:
        counts = []
        for _ in range(4):
            session.embed(maps(3))
            counts.append((bench.device.calls.count("begin_capture"), bench.device.log[-3:]))
        assert [count for count, _ in counts] == [0, 1, 1, 1]
        assert bench.device.log.count("launch") == 3
        assert bench.device.log.count("run 3") == 4
        session.embed(maps(2))
        session.embed(maps(2))
        assert bench.device.alive()["graphs"] == 2


def test_without_graphs_nothing_is_captured(make_bench) -> None:
    for options, device, reason in (
        ({"cuda_graphs": False}, HostDevice(), "switched off"),
        ({}, HostDevice(graphs=False), "host double has none"),
    ):
        bench = make_bench(device=device)
        with bench.open(**options) as session:
            for _ in range(3):
                session.embed(maps(3))
            assert session.runner.no_graphs == reason
        assert "begin_capture" not in device.calls


def test_an_engine_that_cannot_be_captured_runs_without(make_bench, expected) -> None:
    bench = make_bench(capturable=False)
    with bench.open() as session:
        for seed in range(4):
            assert_same(session, expected, maps(3, seed=seed))
        assert "cannot be captured" in session.runner.no_graphs
        assert bench.device.calls.count("begin_capture") == 1
    bench.nothing_is_left()


def test_a_capture_that_failed_is_tried_again_later(make_bench, expected) -> None:
    """Another thread may have disturbed it: the next attempt comes after ten times the runs."""
    bench = make_bench(capturable=False)
    with bench.open() as session:
        for seed in range(2):
            assert_same(session, expected, maps(3, seed=seed))
        assert "cannot be captured" in session.runner.no_graphs
        bench.engine.capturable = True
        for seed in range(8):
            assert_same(session, expected, maps(3, seed=seed))
        assert "graphs" not in bench.device.alive()
        assert_same(session, expected, maps(3))
        assert session.runner.no_graphs is None
        assert bench.device.alive()["graphs"] == 1
        assert_same(session, expected, maps(3, seed=9))
        for seed in range(2):  # another size of batch does not wait for it
            assert_same(session, expected, maps(2, seed=seed))
        assert bench.device.alive()["graphs"] == 2
    bench.nothing_is_left()


def test_after_a_warm_up_a_few_sizes_of_batch_are_all_that_run(make_bench, expected) -> None:
    """Without it, batches of every size make contexts and graphs, and drop them again."""
    bench = make_bench(profile(1, 8, 32))
    with bench.open() as session:
        session.warm_up(32)
        for count in (*range(1, 33), *range(32, 0, -1), 70):
            assert_same(session, expected, maps(count, seed=count), ("embedding",))
        assert sorted(shape[0] for _, shape in session.runner._shapes) == [1, 2, 4, 8, 16, 32]
        assert bench.device.calls.count("begin_capture") == 6
    bench.nothing_is_left()


def test_batches_of_every_size_make_a_few_contexts_without_a_warm_up(make_bench, expected) -> None:
    """Exact sizes as long as they are kept; once one was dropped, batches are padded."""
    bench, made = make_bench(profile(1, 8, 64)), []
    create = bench.engine.create_execution_context
    bench.engine.create_execution_context = lambda strategy: made.append(1) or create(strategy)
    with bench.open() as session:
        for count in np.random.default_rng(0).integers(1, 65, 300):
            assert_same(session, expected, maps(int(count), seed=int(count)), ("embedding",))
        most = engine_runner.KEPT_SHAPES + 1 + len(batch_steps(64))
        assert len(made) <= most
        assert bench.device.calls.count("begin_capture") <= most
    bench.nothing_is_left()


def test_a_capture_that_cannot_begin_leaves_the_run_without_a_graph(make_bench, expected) -> None:
    bench = make_bench()
    with bench.open() as session:
        bench.device.fail_on = "begin_capture"
        for seed in range(3):
            assert_same(session, expected, maps(3, seed=seed))
        assert "cannot be captured (begin_capture failed" in session.runner.no_graphs
        bench.device.fail_on = None
        for seed in range(9):
            assert_same(session, expected, maps(3, seed=seed))
        assert session.runner.no_graphs is None
    bench.nothing_is_left()


def test_the_shape_unused_for_longest_makes_room(make_bench, expected, monkeypatch) -> None:
    monkeypatch.setattr(engine_runner, "KEPT_SHAPES", 3)
    bench = make_bench()
    with bench.open() as session:
        for count in (1, 1, 2, 2, 3, 3, 1, 4, 4, 5):
            assert_same(session, expected, maps(count, seed=count))
        assert [shape[0] for _, shape in session.runner._shapes] == [1, 4, 8]
        gc.collect()
        assert len(bench.engine.contexts) == 3
        assert bench.device.alive()["graphs"] == 2
    bench.nothing_is_left()

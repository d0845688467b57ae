"""Sessions from opening to closing: several on one engine, and whatever fails; on doubles."""

from __future__ import annotations

import gc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from engine_bench import Bench, maps, profile

from gsp_deploy.errors import DeviceError, ModelFileError, UsageError
from gsp_deploy.runtime import SessionOptions
from gsp_deploy.runtime.tensorrt_session import TensorRTSession


def scenario(bench: Bench) -> None:
    """Open, run a few shapes with graphs, on host and device, and close."""
    with bench.open() as session:
        bench.try_out(session)
        with session.another() as other:
            other.embed(maps(1))


def fails(bench: Bench) -> bool:
    """Run the scenario; it ends well, or with the failure that was asked for."""
    try:
        scenario(bench)
    except DeviceError as error:
        return "cudaErrorInjected" in str(error)
    return False


def test_nothing_leaks_whichever_call_fails(make_bench, request) -> None:
    bench = make_bench()
    scenario(bench)
    total = len(bench.device.calls)
    assert total > 80
    failures = 0
    gc.freeze()  # what was there before need not be searched every time
    request.addfinalizer(gc.unfreeze)
    for index in range(total):
        bench = make_bench()
        bench.device.fail_at = index
        failures += fails(bench)
        bench.nothing_is_left()
        assert bench.device.closed
    assert failures > total / 2


@pytest.mark.parametrize(
    "method",
    [
        "create_execution_context",
        "set_input_shape",
        "set_tensor_address",
        "infer_shapes",
        "execute_async_v3",
        "set_optimization_profile_async",
    ],
)
def test_what_tensorrt_refuses_is_told_and_leaks_nothing(make_bench, method: str) -> None:
    bench = make_bench(profile(1, 1, 1), profile(2, 4, 8))
    bench.engine.refuses = method
    with bench.open() as session, pytest.raises(DeviceError, match="TensorRT") as caught:
        session.embed(maps(4))
    assert "\n" not in str(caught.value)
    del caught  # its traceback holds the frames, and they the context
    bench.nothing_is_left()


def test_a_closed_session_is_told_and_closing_twice_does_nothing(make_bench) -> None:
    session = make_bench().open()
    session.close()
    session.close()
    for action in (
        lambda: session.embed(maps(1)),
        session.another,
        lambda: session.embed_device(0),
    ):
        with pytest.raises(UsageError, match="the session is closed"):
            action()


def test_an_engine_without_embedding_is_refused_and_given_back(make_bench) -> None:
    bench = make_bench()
    bench.engine.values["features_out"] = bench.engine.values.pop("embedding")
    with pytest.raises(ModelFileError, match=r"expected an output embedding \[batch, D\], found"):
        bench.open()
    bench.nothing_is_left()
    assert bench.device.closed


def test_sessions_on_one_engine_run_side_by_side(make_bench, expected) -> None:
    bench = make_bench()
    first = bench.open()
    sessions = [first, first.another(), first.another()]
    first.close()  # the engine stays for the others
    assert not bench.device.closed
    wanted = {n: expected.embed(maps(n, seed=n)) for n in range(1, 12)}

    def work(session: TensorRTSession) -> None:
        for n in range(1, 12):
            np.testing.assert_allclose(session.embed(maps(n, seed=n)), wanted[n], atol=1e-6)

    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(work, session) for session in sessions[1:]]:
            done.result()
    streams = {session.runner.stream.handle for session in sessions[1:]}
    assert len(streams) == 2
    for session in sessions[1:]:
        session.close()
    bench.nothing_is_left()
    assert bench.device.closed
    with pytest.raises(DeviceError, match="its last session is closed"):
        TensorRTSession(first.engine, None, SessionOptions("cuda"))


def test_one_session_in_several_threads_takes_turns(make_bench, expected) -> None:
    with make_bench().open() as session, ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda n: session.embed(maps(n, seed=n)), range(1, 9)))
    for n, embeddings in enumerate(found, start=1):
        np.testing.assert_allclose(embeddings, expected.embed(maps(n, seed=n)), atol=1e-6)


@pytest.mark.parametrize(("wait", "blocking", "spinning"), [
    ("auto", False, False), ("block", True, False), ("spin", False, True),
])  # fmt: skip
def test_how_a_thread_waits(make_bench, wait: str, blocking: bool, spinning: bool) -> None:
    bench = make_bench()
    with bench.open(wait=wait):
        assert [event.blocking for event in bench.device.events] == [blocking]
        assert bench.device.spinning == spinning

"""Sessions through cuda-python and PyCUDA, both on a double of a card: the same embeddings, nothing
left, whichever of their calls fails.
"""

from __future__ import annotations

import gc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from cuda_runtime_double import MAKES_CONTEXT
from devices import LIBRARIES, device_on
from engine_bench import Bench, Interface, assert_same, maps, profile
from host_device import HostDevice
from tensorrt_double import install, write_engine

from gsp_deploy import open_session
from gsp_deploy.device import Device
from gsp_deploy.errors import DeviceError, UsageError

CARD = 1  # the second device: a call outside of `current()` would go to the first
# Without them a session goes on, without graphs.
OF_CAPTURE = ("cudaStreamBeginCapture", "cudaStreamEndCapture", "cudaGraphInstantiate")
PROTOCOL = {name for name in vars(Device) if not name.startswith("_")}


@pytest.fixture(params=LIBRARIES)
def library(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def make_bench_by(make_bench, library, monkeypatch):
    """Return a function that makes a bench whose sessions reach the card by the library."""

    def build(*profiles, memory: int = 1 << 40, **engine) -> Bench:
        card = HostDevice(CARD, memory=memory)
        through = device_on(card, library, monkeypatch)
        return make_bench(*profiles, device=card, through=through, **engine)

    return build


def test_embeddings_are_the_same_by_either(make_bench_by, expected) -> None:
    bench = make_bench_by()
    with bench.open() as session:
        for count in (3, 3, 3, 8, 20, 1):
            assert_same(session, expected, maps(count, seed=count))
        assert (session.runner.no_graphs is None) == bench.through.supports_graphs
        assert bool(bench.device.log.count("launch")) == bench.through.supports_graphs
        assert bench.through.api in session.info.device
    bench.nothing_is_left()


def test_results_on_the_device_outlive_their_session(make_bench_by, expected) -> None:
    bench, inputs = make_bench_by(), maps(5)
    with bench.open() as session:
        result = session.embed_device(Interface(bench.device, inputs))
        freed = session.embed_device(Interface(bench.device, inputs))
    np.testing.assert_allclose(result.numpy(), expected.embed(inputs), atol=1e-6)
    freed.free()
    freed.free()
    assert bench.device.alive() == {"on_device": 1}
    del session, freed
    np.testing.assert_allclose(result.numpy(), expected.embed(inputs), atol=1e-6)
    del result
    bench.nothing_is_left()


def scenario(bench: Bench) -> None:
    """Open, run a few shapes with graphs where there are any, on host and device, and close."""
    with bench.open(wait="block") as session:
        bench.try_out(session)


def failure_of(bench: Bench) -> str:
    """Run the scenario and return what it ended with; nothing where it got over the failure."""
    try:
        scenario(bench)
    except DeviceError as error:
        return str(error)
    return ""


def test_nothing_leaks_whichever_call_of_the_library_fails(make_bench_by, request) -> None:
    bench = make_bench_by()
    scenario(bench)
    calls = [
        (at, name)
        for at, name in enumerate(bench.device.calls)
        if name not in {*PROTOCOL, MAKES_CONTEXT}
    ]
    assert len({name for _, name in calls}) >= 10
    gc.freeze()  # what was there before need not be searched every time
    request.addfinalizer(gc.unfreeze)
    for at, name in calls:
        bench = make_bench_by()
        bench.device.fail_at = at
        told = failure_of(bench)
        assert "\n" not in told
        assert told == "" if name in OF_CAPTURE else name in told
        bench.nothing_is_left()


def test_a_session_survives_running_out_of_memory(make_bench_by, expected) -> None:
    bench = make_bench_by(profile(1, 2, 4, size=(2, 2), most=(40, 40)), memory=60_000, scratch=512)
    with bench.open() as session:
        assert_same(session, expected, maps(2, (2, 2)))
        with pytest.raises(DeviceError, match=r"[\d,]+ bytes on the device failed.*out of memory"):
            session.embed(maps(2, (40, 40)))
        assert_same(session, expected, maps(2, (2, 2)))
    bench.nothing_is_left()


def test_sessions_may_be_used_and_closed_by_other_threads(make_bench_by, expected) -> None:
    bench = make_bench_by()
    first = bench.open()
    sessions = [first, first.another(), first.another()]

    def work(session) -> None:
        for count in (2, 2, 5):
            assert_same(session, expected, maps(count, seed=count))
        session.close()

    with ThreadPoolExecutor(3) as pool:
        for done in [pool.submit(work, session) for session in sessions]:
            done.result()
    # Closed is given back, whoever still holds the session.
    assert bench.device.alive() == {}


def test_how_threads_wait_is_said_to_the_library(make_bench_by, library) -> None:
    bench = make_bench_by()
    with bench.open(wait="block"):
        assert [event.blocking for event in bench.device.events] == [True]
    if library == "pycuda":
        with pytest.raises(UsageError, match="pass wait block or auto, or use cuda-python"):
            bench.open(wait="spin")
    else:
        with bench.open(wait="spin"):
            assert bench.device.spinning
    bench.nothing_is_left()


def test_an_engine_opens_by_the_library_that_was_asked_for(
    library, tiny_export: str, tmp_path: Path, monkeypatch
) -> None:
    card = HostDevice(CARD)
    device_on(card, library, monkeypatch)
    install(monkeypatch, card, through_libraries=True)
    engine = write_engine(card, Path(tiny_export), tmp_path / "tiny.engine")
    pixels = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)
    with (
        open_session(engine, f"cuda:{CARD}", cuda_api=library) as session,
        open_session(tiny_export) as expected,
    ):
        assert session.info.device.startswith(f"cuda:{CARD}, {library}")
        np.testing.assert_allclose(session.embed(pixels), expected.embed(pixels), atol=1e-6)
    assert card.alive() == {}

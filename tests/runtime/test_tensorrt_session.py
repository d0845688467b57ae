"""What a session does with an engine, on doubles of device and engine (see tests/doubles)."""

from __future__ import annotations

import gc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from engine_double import EngineDouble, share
from host_device import HostDevice

from gsp_deploy import open_session
from gsp_deploy.errors import DeviceError, ModelFileError, UsageError
from gsp_deploy.runtime import SessionOptions, engine_runner
from gsp_deploy.runtime.batching import InputProfile
from gsp_deploy.runtime.tensorrt_session import TensorRTSession

ALL = ("embedding", "attributes", "weights")
CHANNELS, SIZE = 6, (3, 4)


def profile(low: int, best: int, high: int, size=SIZE, most=None) -> InputProfile:
    most = most or size
    shapes = ((low, *size), (best, *size), (high, *most))
    return InputProfile(*((batch, CHANNELS, *hw) for batch, *hw in shapes))


class Bench:
    """A device, an engine on it, and sessions."""

    def __init__(self, path: Path, profiles, device: HostDevice | None = None, **engine) -> None:
        self.path = path
        self.device = device or HostDevice()
        self.engine = EngineDouble(path, self.device, profiles, **engine)

    def open(self, **options) -> TensorRTSession:
        return TensorRTSession(
            share(self.path, self.engine), None, SessionOptions("cuda", **options)
        )

    def nothing_is_left(self) -> None:
        gc.collect()
        assert self.device.alive() == {}
        assert len(self.engine.contexts) == 0
        assert self.device.depth == 0


@pytest.fixture
def make(head_export):
    def build(*profiles: InputProfile, device=None, precision: str = "fp32", **engine) -> Bench:
        path = head_export() if precision == "fp32" else head_export(io_precision=precision)
        return Bench(path, profiles or (profile(1, 4, 8),), device, **engine)

    return build


@pytest.fixture
def expected(head_export):
    """What ONNX Runtime itself says."""
    with open_session(head_export()) as session:
        yield session


def maps(count: int, size=SIZE, seed: int = 0) -> np.ndarray:
    draw = np.random.default_rng(seed)
    return np.abs(draw.standard_normal((count, CHANNELS, *size))).astype(np.float32)


def assert_same(session, expected, inputs, names=ALL) -> None:
    found, wanted = session.run(inputs, names), expected.run(inputs, names)
    for name in names:
        assert found[name].dtype == np.float32
        np.testing.assert_allclose(found[name], wanted[name], rtol=1e-5, atol=1e-6)


# Values


@pytest.mark.parametrize("graphs", [True, False])
@pytest.mark.parametrize("count", [1, 4, 8, 9, 23])
def test_any_number_of_images(make, expected, count: int, graphs: bool) -> None:
    bench = make()
    with bench.open(cuda_graphs=graphs) as session:
        for seed in range(4):  # the first run, the captured one, and its launches
            assert_same(session, expected, maps(count, seed=seed))
    bench.nothing_is_left()


def test_no_images(make) -> None:
    with make().open() as session:
        found = session.run(maps(0), ALL)
    assert [found[name].shape for name in ALL] == [(0, 5), (0, 4), (0, *SIZE)]


def test_padding_is_zeros_and_does_not_show(make, expected) -> None:
    bench = make(profile(4, 4, 4))
    with bench.open() as session:
        assert_same(session, expected, maps(4))
        assert_same(session, expected, maps(3, seed=1))
        assert "run 4" in bench.device.log
        assert not {"run 3", "run 1"} & set(bench.device.log)
        host = session.runner._on_host[session.engine.input.name].memory
        assert not host.view(np.float32).reshape(4, -1)[3].any()


def test_sizes_and_profiles_are_chosen_for_the_batch(make, expected) -> None:
    bench = make(profile(1, 1, 1), profile(2, 4, 8), profile(1, 2, 2, size=(5, 5), most=(9, 9)))
    with bench.open() as session:
        for inputs in (maps(9), maps(3, (5, 7)), maps(1), maps(2, (9, 9))):
            assert_same(session, expected, inputs)
        assert [(s.profile, s.shape[0]) for s in session.runner._shapes.values()] == [
            (1, 8), (2, 2), (2, 1), (0, 1), (2, 2),
        ]  # fmt: skip
        with pytest.raises(UsageError, match=r"1:2:2x6x5:5:9x5:5:9.*got images of 6x4x4"):
            session.embed(maps(1, (4, 4)))
    bench.nothing_is_left()


def test_float16_at_the_ends(make, expected) -> None:
    with make(precision="fp16").open() as session:
        assert session.info.input.dtype == "float16"
        inputs = maps(5)
        np.testing.assert_allclose(session.embed(inputs), expected.embed(inputs), atol=3e-3)
        with pytest.raises(UsageError, match="beyond the float16"):
            session.embed(inputs * 1e6)


def test_max_batch_limits_what_goes_through_at_once(make, expected) -> None:
    bench = make()
    with bench.open(max_batch=3) as session:
        assert_same(session, expected, maps(7))
        assert {"run 3", "run 1"} == {line for line in bench.device.log if line.startswith("run")}
        with pytest.raises(UsageError, match="takes 3 images at once, got 4"):
            session.infer(maps(4), ALL)


# Buffers


def test_buffers_are_made_once_for_the_largest_batch(make, expected) -> None:
    bench = make()
    with bench.open() as session:
        session.embed(maps(2))
        before = len([call for call in bench.device.calls if call.startswith("allocate")])
        for count in (1, 8, 3, 20):
            assert_same(session, expected, maps(count), ("embedding",))
        assert before == len([c for c in bench.device.calls if c.startswith("allocate")])


def test_buffers_grow_with_the_images_and_graphs_follow(make, expected) -> None:
    bench = make(profile(1, 2, 4, size=(2, 2), most=(8, 8)))
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


def test_a_session_survives_running_out_of_memory(make, expected) -> None:
    bench = make(
        profile(1, 2, 4, size=(2, 2), most=(40, 40)), device=HostDevice(memory=60_000), scratch=512
    )
    with bench.open() as session:
        assert_same(session, expected, maps(2, (2, 2)))
        with pytest.raises(DeviceError, match="cudaErrorMemoryAllocation"):
            session.embed(maps(2, (40, 40)))
        assert_same(session, expected, maps(2, (2, 2)))
    bench.nothing_is_left()


# Graphs


def test_a_shape_is_captured_when_it_comes_again(make) -> None:
    bench = make()
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


def test_without_graphs_nothing_is_captured(make) -> None:
    for options, device, reason in (
        ({"cuda_graphs": False}, HostDevice(), "switched off"),
        ({}, HostDevice(graphs=False), "host double has none"),
    ):
        bench = make(device=device)
        with bench.open(**options) as session:
            for _ in range(3):
                session.embed(maps(3))
            assert session.runner.no_graphs == reason
        assert "begin_capture" not in device.calls


def test_an_engine_that_cannot_be_captured_runs_without(make, expected) -> None:
    bench = make(capturable=False)
    with bench.open() as session:
        for seed in range(4):
            assert_same(session, expected, maps(3, seed=seed))
        assert "cannot be captured" in session.runner.no_graphs
        assert bench.device.calls.count("begin_capture") == 1
    bench.nothing_is_left()


def test_the_shape_unused_for_longest_makes_room(make, expected, monkeypatch) -> None:
    monkeypatch.setattr(engine_runner, "KEPT_SHAPES", 3)
    bench = make()
    with bench.open() as session:
        for count in (1, 1, 2, 2, 3, 3, 1, 4, 4, 5):
            assert_same(session, expected, maps(count, seed=count))
        assert [shape[0] for _, shape in session.runner._shapes] == [1, 4, 5]
        gc.collect()
        assert len(bench.engine.contexts) == 3
        assert bench.device.alive()["graphs"] == 2
    bench.nothing_is_left()


# Life and death


def scenario(bench: Bench) -> None:
    """Open, run a few shapes with graphs, on host and device, and close."""
    with bench.open() as session:
        for count in (2, 2, 5, 2):
            session.embed(maps(count))
        with bench.device.current():
            stream = bench.device.create_stream()
        try:
            image = Interface(bench.device, maps(2))
            session.embed_device(image, stream=stream.handle).free()
        finally:
            with bench.device.current():
                bench.device.destroy_stream(stream)
        with session.another() as other:
            other.embed(maps(1))


def fails(bench: Bench) -> bool:
    """Run the scenario; it ends well, or with the failure that was asked for."""
    try:
        scenario(bench)
    except DeviceError as error:
        return "cudaErrorInjected" in str(error)
    return False


def test_nothing_leaks_whichever_call_fails(make, request) -> None:
    bench = make()
    scenario(bench)
    total = len(bench.device.calls)
    assert total > 80
    failures = 0
    gc.freeze()  # what was there before need not be searched every time
    request.addfinalizer(gc.unfreeze)
    for index in range(total):
        bench = make()
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
def test_what_tensorrt_refuses_is_told_and_leaks_nothing(make, method: str) -> None:
    bench = make(profile(1, 1, 1), profile(2, 4, 8))
    bench.engine.refuses = method
    with bench.open() as session, pytest.raises(DeviceError, match="TensorRT") as caught:
        session.embed(maps(4))
    assert "\n" not in str(caught.value)
    del caught  # its traceback holds the frames, and they the context
    bench.nothing_is_left()


def test_a_closed_session_is_told_and_closing_twice_does_nothing(make) -> None:
    session = make().open()
    session.close()
    session.close()
    for action in (
        lambda: session.embed(maps(1)),
        session.another,
        lambda: session.embed_device(0),
    ):
        with pytest.raises(UsageError, match="the session is closed"):
            action()


def test_an_engine_without_embedding_is_refused_and_given_back(make) -> None:
    bench = make()
    bench.engine.values["features_out"] = bench.engine.values.pop("embedding")
    with pytest.raises(ModelFileError, match=r"expected an output embedding \[batch, D\], found"):
        bench.open()
    bench.nothing_is_left()
    assert bench.device.closed


def test_sessions_on_one_engine_run_side_by_side(make, expected) -> None:
    bench = make()
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


def test_one_session_in_several_threads_takes_turns(make, expected) -> None:
    with make().open() as session, ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda n: session.embed(maps(n, seed=n)), range(1, 9)))
    for n, embeddings in enumerate(found, start=1):
        np.testing.assert_allclose(embeddings, expected.embed(maps(n, seed=n)), atol=1e-6)


@pytest.mark.parametrize(("wait", "blocking", "spinning"), [
    ("auto", False, False), ("block", True, False), ("spin", False, True),
])  # fmt: skip
def test_how_a_thread_waits(make, wait: str, blocking: bool, spinning: bool) -> None:
    bench = make()
    with bench.open(wait=wait):
        assert [event.blocking for event in bench.device.events] == [blocking]
        assert bench.device.spinning == spinning


# Arrays on the device


class Interface:
    """Device memory with `__cuda_array_interface__` alone, as of PyCUDA or Numba."""

    def __init__(self, device: HostDevice, values: np.ndarray, **changes) -> None:
        self.device, self.values = device, values
        self.memory = np.full(values.nbytes + 512, 1, np.uint8)
        self.address = -(-self.memory.ctypes.data // 256) * 256
        offset = self.address - self.memory.ctypes.data
        self.view = self.memory[offset : offset + values.nbytes].view(values.dtype)
        self.view[:] = values.reshape(-1)
        self.changes = changes
        # Foreign memory: known to the double, not of the session's making.
        original = device.bytes_at
        device.bytes_at = lambda a, n: (
            self.memory[a - self.memory.ctypes.data :][:n]
            if self.address <= a < self.address + values.nbytes
            else original(a, n)
        )

    @property
    def __cuda_array_interface__(self) -> dict:
        return {
            "shape": self.values.shape,
            "typestr": self.values.dtype.str,
            "data": (self.address, False),
            "version": 3,
            **self.changes,
        }


@pytest.mark.parametrize("count", [1, 5, 19])
def test_embed_device_leaves_the_result_on_the_device(make, expected, count: int) -> None:
    bench = make()
    inputs = maps(count)
    with bench.open() as session:
        bench.device.log.clear()
        result = session.embed_device(Interface(bench.device, inputs))
        assert not {"copy in", "copy out"} & set(bench.device.log)
        np.testing.assert_allclose(result.numpy(), expected.embed(inputs), atol=1e-6)
        assert result.__cuda_array_interface__["shape"] == (count, 5)
    np.testing.assert_allclose(result.numpy(), expected.embed(inputs), atol=1e-6)  # outlives it
    assert bench.device.alive() == {"on_device": 1}
    del result
    bench.nothing_is_left()


def test_embed_device_takes_what_has_dlpack_and_fills_out(make, expected) -> None:
    bench = make()
    inputs = maps(4)
    with bench.open() as session:
        first = session.embed_device(Interface(bench.device, inputs))
        out = Interface(bench.device, np.zeros((4, 5), np.float32))
        assert session.embed_device(Interface(bench.device, inputs), out=out) is out
        np.testing.assert_allclose(out.view.reshape(4, 5), expected.embed(inputs), atol=1e-6)
        # A DeviceArray speaks DLPack: it can be filled in turn.
        assert session.embed_device(Interface(bench.device, inputs[::-1].copy()), out=first)
        np.testing.assert_allclose(first.numpy(), expected.embed(inputs[::-1].copy()), atol=1e-6)


def test_embed_device_orders_itself_between_streams(make, expected) -> None:
    bench, inputs = make(), maps(3)
    with bench.open() as session:
        with bench.device.current():
            caller = bench.device.create_stream()
        image = Interface(bench.device, np.zeros_like(inputs))
        # The producer has only queued its work when the session is called.
        caller.add(lambda: image.view.__setitem__(slice(None), inputs.reshape(-1)))
        result = session.embed_device(image, stream=caller.handle)
        assert caller.queue, "nothing waited on the host"
        with bench.device.current():
            bench.device.synchronize(caller)
        np.testing.assert_allclose(result.numpy(), expected.embed(inputs), atol=1e-6)
        assert result.__cuda_array_interface__["stream"] == caller.handle

        image = Interface(bench.device, np.zeros_like(inputs), stream=caller.handle)
        caller.add(lambda: image.view.__setitem__(slice(None), inputs.reshape(-1)))
        result = session.embed_device(image)  # the array itself tells of the stream
        np.testing.assert_allclose(result.numpy(), expected.embed(inputs), atol=1e-6)


def test_device_arrays_that_do_not_fit(make) -> None:
    bench = make()
    good = maps(2)
    with bench.open() as session:
        for image, words in (
            (good, "in host memory; give it to embed"),
            ([1, 2], "with __cuda_array_interface__ or __dlpack__.*got list"),
            (Interface(bench.device, good.astype(np.float16)), "of float32, got float16"),
            (Interface(bench.device, good.astype(np.float64)), "expected elements of .*got <f8"),
            (Interface(bench.device, good[:, :5]), r"of shape \(batch, 6"),
            (Interface(bench.device, good[0, 0]), r"of shape \(batch, 6"),
            (
                Interface(bench.device, good, strides=(4, 8, 96, 288)),
                "expected a dense array in C order",
            ),
        ):
            with pytest.raises(UsageError, match=words):
                session.embed_device(image)
        image, out = (
            Interface(bench.device, values) for values in (good, np.zeros((2, 4), np.float32))
        )
        with pytest.raises(UsageError, match=r"expected out to be float32 \(2, 5\), got"):
            session.embed_device(image, out=out)
        other = HostDevice(1)
        with make(device=other).open() as elsewhere:
            foreign = elsewhere.embed_device(Interface(other, good))
        with pytest.raises(UsageError, match="is on cuda:1, the session on cuda:0"):
            session.embed_device(foreign)
    bench.nothing_is_left()


def test_no_images_on_the_device(make) -> None:
    bench = make()
    with bench.open() as session:
        empty = Interface(bench.device, maps(1), shape=(0, CHANNELS, *SIZE))
        assert session.embed_device(empty).numpy().shape == (0, 5)

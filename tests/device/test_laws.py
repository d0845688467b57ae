"""What every device keeps to, whichever library is underneath: on doubles of a card, and on a GPU.

The doubles lie on a second device, so that a call outside of `current()` goes to the wrong one.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import pairwise

import numpy as np
import pytest
from devices import HOST, LIBRARIES, device_on
from host_device import HostDevice

from gsp_deploy.device import Device, open_device
from gsp_deploy.device.protocol import Event, Stream
from gsp_deploy.errors import DeviceError

ON_GPU = tuple(pytest.param((name, "GPU"), marks=pytest.mark.gpu) for name in LIBRARIES)
CARD_BYTES = 1 << 30


@pytest.fixture
def card() -> HostDevice:
    return HostDevice(1, memory=CARD_BYTES)


@pytest.fixture(
    params=[(HOST, ""), *((name, "double") for name in LIBRARIES), *ON_GPU], ids="-".join
)
def device(request: pytest.FixtureRequest, card: HostDevice) -> Iterator[Device]:
    """A device that is current; nothing is left on the card when a test is done with it."""
    library, place = request.param
    if place == "GPU":
        pytest.importorskip("pycuda" if library == "pycuda" else "cuda.bindings")
        device = open_device(0, library)
    else:
        device = device_on(card, library, request.getfixturevalue("monkeypatch"))
    with device.current():
        yield device
    device.close()
    device.close()
    gc.collect()
    assert card.alive() == {}
    assert card.depth == 0


@pytest.fixture
def owned(device: Device) -> Iterator[Owned]:
    with Owned(device) as owned:
        yield owned


class Owned(ExitStack):
    """Makes things on a device, and gives back at the end what was made."""

    def __init__(self, device: Device) -> None:
        super().__init__()
        self.device = device

    def memory(self, size: int) -> int:
        address = self.device.allocate(size)
        self.callback(self.device.free, address)
        return address

    def pinned(self, size: int) -> np.ndarray:
        memory = self.device.allocate_host(size)
        self.callback(self.device.free_host, memory)
        return memory

    def stream(self) -> Stream:
        stream = self.device.create_stream()
        self.callback(self.device.destroy_stream, stream)
        return stream

    def event(self, *, blocking: bool = False) -> Event:
        event = self.device.create_event(blocking=blocking)
        self.callback(self.device.destroy_event, event)
        return event


def noise(size: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, size, np.uint8)


@pytest.mark.parametrize("size", [1, 255, 4099])
def test_bytes_come_back_as_they_went(device: Device, owned: Owned, size: int) -> None:
    stream, there, beside = owned.stream(), owned.memory(size), owned.memory(size)
    sent, received = noise(size), np.zeros(size, np.uint8)
    device.copy_in(there, sent, stream)
    device.copy_within(beside, there, size, stream)
    device.copy_out(received, beside, stream)
    device.synchronize(stream)
    np.testing.assert_array_equal(received, sent)


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.uint16])
def test_arrays_of_any_element_and_shape_are_copied_as_bytes(device, owned, dtype) -> None:
    stream, sent = owned.stream(), noise(240).view(dtype).reshape(2, 3, -1)
    sent.flags.writeable = False
    there, received = owned.memory(sent.nbytes), owned.pinned(sent.nbytes)
    device.copy_in(there, sent, stream)
    device.copy_out(received.view(dtype).reshape(sent.shape), there, stream)
    device.synchronize(stream)
    assert received.tobytes() == sent.tobytes()


def test_pinned_memory_is_plain_bytes_to_write_and_read(device: Device, owned: Owned) -> None:
    stream, there = owned.stream(), owned.memory(64)
    sent, received = owned.pinned(64), owned.pinned(64)
    assert (sent.dtype, sent.shape, sent.flags.writeable) == (np.uint8, (64,), True)
    sent[:] = noise(64)
    device.copy_in(there, sent, stream)
    device.copy_out(received, there, stream)
    device.synchronize(stream)
    np.testing.assert_array_equal(received, noise(64))


def test_allocations_are_aligned_and_apart(owned: Owned) -> None:
    places = sorted(owned.memory(300) for _ in range(8))
    assert all(place % 256 == 0 for place in places)
    assert all(after - before >= 300 for before, after in pairwise(places))


def test_a_part_of_an_allocation_has_its_own_address(device: Device, owned: Owned) -> None:
    stream, there, sent = owned.stream(), owned.memory(100), noise(100)
    received = np.zeros(40, np.uint8)
    device.copy_in(there, sent, stream)
    device.copy_out(received, there + 60, stream)
    device.synchronize(stream)
    np.testing.assert_array_equal(received, sent[60:])


def test_a_stream_comes_after_what_was_queued_on_another(device: Device, owned: Owned) -> None:
    first, then, there = owned.stream(), owned.stream(), owned.memory(32)
    received = np.zeros(32, np.uint8)
    device.copy_in(there, noise(32), first)
    device.order(device.handle_of(first), device.handle_of(then))
    device.copy_out(received, there, then)
    device.copy_in(there, noise(32, seed=1), then)
    device.synchronize(then)
    np.testing.assert_array_equal(received, noise(32))


def test_streams_have_addresses_of_their_own(device: Device, owned: Owned) -> None:
    handles = [device.handle_of(owned.stream()) for _ in range(3)]
    assert all(type(handle) is int for handle in handles)
    assert len(set(handles) | {0}) == 4  # 0 would be the default stream


@pytest.mark.parametrize("blocking", [False, True])
def test_what_was_queued_before_an_event_is_done_when_it_has_happened(
    device: Device, owned: Owned, blocking: bool
) -> None:
    stream, there, event = owned.stream(), owned.memory(32), owned.event(blocking=blocking)
    received = np.zeros(32, np.uint8)
    device.copy_in(there, noise(32), stream)
    device.copy_out(received, there, stream)
    device.record(event, stream)
    device.wait(event)
    np.testing.assert_array_equal(received, noise(32))


def test_times_between_events_add_up(device: Device, owned: Owned) -> None:
    stream, there = owned.stream(), owned.memory(32)
    events = [owned.event() for _ in range(3)]
    for event in events:
        device.record(event, stream)
        device.copy_in(there, noise(32), stream)
    device.synchronize(stream)
    first, second, both = (
        device.elapsed_ms(events[start], events[end]) for start, end in ((0, 1), (1, 2), (0, 2))
    )
    assert min(first, second) >= 0 < both
    assert both == pytest.approx(first + second, abs=2e-3)  # CUDA's clock ticks by half of that


def test_an_event_that_was_not_queued_has_no_time(device: Device, owned: Owned) -> None:
    with pytest.raises(DeviceError, match="ElapsedTime") as caught:
        device.elapsed_ms(owned.event(), owned.event())
    assert "\n" not in str(caught.value)


def test_memory_that_is_not_there_is_refused_and_nothing_else_suffers(
    device: Device, owned: Owned
) -> None:
    size = 1 << 50
    before = device.memory()
    for allocate in (device.allocate, device.allocate_host):
        with pytest.raises(DeviceError, match=rf"{size:,} bytes.*(MemoryAllocation|of memory)"):
            allocate(size)
    assert device.memory().total == before.total
    stream, there, received = owned.stream(), owned.memory(32), np.zeros(32, np.uint8)
    device.copy_in(there, noise(32), stream)
    device.copy_out(received, there, stream)
    device.synchronize(stream)
    np.testing.assert_array_equal(received, noise(32))


def test_memory_that_was_taken_comes_back(device: Device, card: HostDevice) -> None:
    before = device.memory()
    assert 0 < before.free <= before.total
    there = device.allocate(1 << 20)
    if card.alive():  # on a GPU others may take and give meanwhile
        assert device.memory().free == before.free - (1 << 20)
    device.free(there)
    assert device.memory().total == before.total


def test_a_graph_does_again_what_was_captured_and_nothing_before(
    device: Device, owned: Owned
) -> None:
    if not device.supports_graphs:
        pytest.skip(f"{device.api} has no CUDA graphs")
    stream, there, beside = owned.stream(), owned.memory(32), owned.memory(32)
    sent, received = owned.pinned(32), owned.pinned(32)
    sent[:], received[:] = 0, 0
    device.begin_capture(stream)
    device.copy_in(there, sent, stream)
    device.copy_within(beside, there, 32, stream)
    device.copy_out(received, beside, stream)
    graph = device.end_capture(stream)
    owned.callback(device.destroy_graph, graph)
    for seed in (1, 2, 3):
        sent[:] = noise(32, seed)
        device.synchronize(stream)
        assert not np.array_equal(received, sent)
        device.launch(graph, stream)
        device.synchronize(stream)
        np.testing.assert_array_equal(received, sent)


def test_a_device_without_graphs_says_so(device: Device, owned: Owned) -> None:
    if device.supports_graphs:
        pytest.skip(f"{device.api} has CUDA graphs")
    stream = owned.stream()
    for action in (
        lambda: device.begin_capture(stream),
        lambda: device.end_capture(stream),
        lambda: device.launch(None, stream),
        lambda: device.destroy_graph(None),
    ):
        with pytest.raises(DeviceError, match="no CUDA graphs; use cuda-python"):
            action()


def test_any_thread_can_work_on_it_at_the_same_time(device: Device) -> None:
    def work(seed: int) -> bool:
        with device.current(), Owned(device) as owned:
            stream, there, received = owned.stream(), owned.memory(32), owned.pinned(32)
            device.copy_in(there, noise(32, seed), stream)
            device.copy_out(received, there, stream)
            device.synchronize(stream)
            return np.array_equal(received, noise(32, seed))

    with ThreadPoolExecutor(3) as pool:
        assert all(pool.map(work, range(9)))


def test_one_thread_may_give_back_what_another_made(device: Device) -> None:
    def make() -> Owned:
        with device.current():
            owned = Owned(device)
            owned.stream(), owned.memory(32), owned.pinned(32), owned.event()
            return owned

    with ThreadPoolExecutor(1) as pool:
        owned = pool.submit(make).result()
    owned.close()


def test_current_can_be_nested_and_lets_errors_through(device: Device, owned: Owned) -> None:
    with pytest.raises(ZeroDivisionError), device.current(), device.current():
        1 / 0  # noqa: B018
    assert owned.memory(8)


def test_its_properties_are_those_of_the_card(device: Device, card: HostDevice) -> None:
    told = device.properties()
    assert device.api.split()
    assert all(isinstance(value, (str, int, bool)) for value in vars(told).values())
    assert float(told.compute_capability) > 0
    assert all(float(version) > 9 for version in (told.driver, told.runtime))
    if told.name == card.properties().name:
        assert told == card.properties()

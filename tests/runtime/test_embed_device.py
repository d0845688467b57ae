"""Arrays on the device and embeddings that stay there, on doubles of device and engine."""

from __future__ import annotations

import numpy as np
import pytest
from engine_bench import CHANNELS, SIZE, Interface, maps
from host_device import HostDevice

from gsp_deploy.errors import UsageError
from gsp_deploy.runtime.device_array import DeviceArray


@pytest.mark.parametrize("count", [1, 5, 19])
def test_embed_device_leaves_the_result_on_the_device(make_bench, expected, count: int) -> None:
    bench = make_bench()
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


def test_embed_device_takes_what_has_dlpack_and_fills_out(make_bench, expected) -> None:
    bench = make_bench()
    inputs = maps(4)
    with bench.open() as session:
        first = session.embed_device(Interface(bench.device, inputs))
        out = Interface(bench.device, np.zeros((4, 5), np.float32))
        assert session.embed_device(Interface(bench.device, inputs), out=out) is out
        np.testing.assert_allclose(out.view.reshape(4, 5), expected.embed(inputs), atol=1e-6)
        # A DeviceArray speaks DLPack: it can be filled in turn.
        assert session.embed_device(Interface(bench.device, inputs[::-1].copy()), out=first)
        np.testing.assert_allclose(first.numpy(), expected.embed(inputs[::-1].copy()), atol=1e-6)


@pytest.mark.parametrize("behind", [1, 4, 20])
def test_embed_device_takes_any_address(make_bench, expected, behind: int) -> None:
    """The engine reads and writes buffers of the session's own; what is copied may lie anywhere."""
    bench, inputs = make_bench(), maps(19)  # more than one batch
    with bench.open() as session:
        image = Interface(bench.device, inputs, behind=behind)
        out = Interface(bench.device, np.zeros((19, 5), np.float32), behind=behind)
        assert session.embed_device(image, out=out) is out
        np.testing.assert_allclose(out.view.reshape(19, 5), expected.embed(inputs), atol=1e-6)


def test_embed_device_orders_itself_between_streams(make_bench, expected) -> None:
    bench, inputs = make_bench(), maps(3)
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


def test_the_default_stream_has_the_number_that_readers_expect(make_bench) -> None:
    """CUDA and PyTorch say 0; `__cuda_array_interface__` forbids it and means 1."""
    device = make_bench().device
    found = DeviceArray(device, (2, 5), "float32", 4)
    found.written_on(0)
    assert found.__cuda_array_interface__["stream"] == 1
    found.__dlpack__(stream=1)  # the same stream: there is nothing to order
    assert "order" not in device.calls
    found.free()


def test_device_arrays_that_do_not_fit(make_bench) -> None:
    bench = make_bench()
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
        with make_bench(device=other).open() as elsewhere:
            foreign = elsewhere.embed_device(Interface(other, good))
        with pytest.raises(UsageError, match="is on cuda:1, the session on cuda:0"):
            session.embed_device(foreign)
    bench.nothing_is_left()


def test_no_images_on_the_device(make_bench) -> None:
    bench = make_bench()
    with bench.open() as session:
        empty = Interface(bench.device, maps(1), shape=(0, CHANNELS, *SIZE))
        assert session.embed_device(empty).numpy().shape == (0, 5)


@pytest.mark.parametrize(("reader", "is_ordered"), [(None, True), (1, True), (-1, False)])
def test_a_reader_that_names_no_stream_is_ordered_with_the_default_one(
    reader: int | None, is_ordered: bool, make_bench, expected
) -> None:
    """DLPack: `stream=None` means CUDA's default stream, and -1 that nothing is to be ordered."""
    bench, values = make_bench(), maps(2)
    with bench.open() as session:
        with bench.device.current():
            stream = bench.device.create_stream()
        found = session.embed_device(Interface(bench.device, values), stream=stream.handle)
        capsule = found.__dlpack__(stream=reader)
        bench.device.default.run()  # the reader's own work would come now
        written = bench.device.bytes_at(found.address, found.nbytes).view(np.float32)
        close = np.allclose(written.reshape(2, 5), expected.embed(values), rtol=1e-5, atol=1e-6)
        assert close == is_ordered
        with bench.device.current():
            bench.device.synchronize(stream)
            bench.device.destroy_stream(stream)
        del capsule
        found.free()
    bench.nothing_is_left()

"""A bench to try sessions on: a double of a device, a double of an engine on it, feature maps."""

from __future__ import annotations

import gc
from pathlib import Path

import numpy as np
from engine_double import EngineDouble, share
from host_device import HostDevice

from gsp_deploy.device import Device
from gsp_deploy.runtime import SessionOptions
from gsp_deploy.runtime.batching import InputProfile
from gsp_deploy.runtime.tensorrt_session import TensorRTSession

ALL = ("embedding", "attributes", "weights")
CHANNELS, SIZE = 6, (3, 4)


class Bench:
    """A device, an engine on it, and sessions."""

    def __init__(
        self,
        path: Path,
        profiles,
        device: HostDevice | None = None,
        through: Device | None = None,
        **engine,
    ) -> None:
        """Set up a device; sessions reach it `through` another one that lies on it, or itself."""
        self.path = path
        self.device = device or HostDevice()
        self.through = through or self.device
        self.engine = EngineDouble(path, self.device, profiles, **engine)

    def open(self, **options) -> TensorRTSession:
        return TensorRTSession(
            share(self.path, self.engine, self.through), None, SessionOptions("cuda", **options)
        )

    def try_out(self, session: TensorRTSession) -> None:
        """Run a few shapes, twice the same, from the host and on a stream of the device."""
        for count in (2, 2, 5, 2):
            session.embed(maps(count))
        with self.device.current():
            stream = self.device.create_stream()
        try:
            image = Interface(self.device, maps(2))
            session.embed_device(image, stream=stream.handle).free()
        finally:
            with self.device.current():
                self.device.destroy_stream(stream)

    def nothing_is_left(self) -> None:
        gc.collect()
        assert self.device.alive() == {}
        assert len(self.engine.contexts) == 0
        assert self.device.depth == 0


class Interface:
    """Device memory with `__cuda_array_interface__` alone, as of PyCUDA or Numba."""

    def __init__(
        self, device: HostDevice, values: np.ndarray, *, behind: int = 0, **changes
    ) -> None:
        """Place the values `behind` bytes behind an address that is aligned to 256."""
        self.device, self.values = device, values
        self.memory = np.full(values.nbytes + 512, 1, np.uint8)
        self.address = -(-self.memory.ctypes.data // 256) * 256 + behind
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


def profile(low: int, best: int, high: int, size=SIZE, most=None) -> InputProfile:
    most = most or size
    shapes = ((low, *size), (best, *size), (high, *most))
    return InputProfile(*((batch, CHANNELS, *hw) for batch, *hw in shapes))


def maps(count: int, size=SIZE, seed: int = 0) -> np.ndarray:
    draw = np.random.default_rng(seed)
    return np.abs(draw.standard_normal((count, CHANNELS, *size))).astype(np.float32)


def assert_same(session, expected, inputs, names=ALL) -> None:
    found, wanted = session.run(inputs, names), expected.run(inputs, names)
    for name in names:
        assert found[name].dtype == np.float32
        np.testing.assert_allclose(found[name], wanted[name], rtol=1e-5, atol=1e-6)

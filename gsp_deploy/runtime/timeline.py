"""Time an engine in stages: copies and compute by CUDA events, the rest by the host's clock."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from gsp_deploy.base.encoding import encode
from gsp_deploy.device.protocol import Event
from gsp_deploy.errors import UsageError
from gsp_deploy.runtime.batching import plan_chunks

if TYPE_CHECKING:
    from gsp_deploy.runtime.tensorrt_session import TensorRTSession

STAGES = ("to_device", "compute", "from_device", "enqueue", "end_to_end")
_EVENTS = 5
_MILLISECOND = 1e-3
# The buffer is this much larger than the cache, so that writing it evicts everything else.
_FLUSH_FACTOR = 2


class Timeline:
    """A batch of an engine's session, run again and again, each run timed in stages.

    Attributes:
        rows: seconds of every run so far, in the order of `STAGES`.
    """

    def __init__(
        self,
        session: TensorRTSession,
        inputs: np.ndarray,
        *,
        cold_l2: bool = False,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """Set up the timeline for prepared inputs, which must fit one run of the engine."""
        self._session, self._clock = session, clock
        self._runner, self._device = session.runner, session.engine.device
        self._stored = encode(inputs, session.engine.input.dtype)
        profiles = session.engine.profiles
        chunks = plan_chunks(profiles, len(inputs), inputs.shape[1:], len(inputs))
        if len(chunks) > 1 or chunks[0].batch != len(inputs):
            raise UsageError(
                f"{session.info.path} takes batches of {', '.join(map(str, profiles))}, not of "
                f"{len(inputs)}; pass another --batch"
            )
        self._chunk = chunks[0]
        self.rows: list[tuple[float, ...]] = []
        with ExitStack() as stack, self._device.current():
            self._events: list[Event] = []
            for _ in range(_EVENTS):
                self._events.append(self._device.create_event())
                stack.callback(self._device.destroy_event, self._events[-1])
            self._flush = self._make_flush(stack) if cold_l2 else None
            self._resources = stack.pop_all()

    def _make_flush(self, stack: ExitStack) -> Callable[[], None]:
        size = _FLUSH_FACTOR * max(self._device.properties().l2_bytes, 1)
        block = self._device.allocate(2 * size)
        stack.callback(self._device.free, block)
        return lambda: self._device.copy_within(block + size, block, size, self._runner.stream)

    def run(self) -> None:
        """Run once, and add a row."""
        device, runner, stream, clock = self._device, self._runner, self._runner.stream, self._clock
        before, uploaded, ready, computed, downloaded = self._events
        with device.current():
            prepared = self._session.stage(self._stored, self._chunk)
            start = clock()
            device.record(before, stream)
            runner.upload(prepared)
            device.record(uploaded, stream)
            if self._flush is not None:
                self._flush()
            device.record(ready, stream)
            enqueue_start = clock()
            runner.execute(prepared)
            enqueue_end = clock()
            device.record(computed, stream)
            runner.download(prepared, ("embedding",))
            device.record(downloaded, stream)
            runner.wait()
            total = clock() - start
            copied_in, flushed, computing, copied_out = (
                device.elapsed_ms(one, other) * _MILLISECOND
                for one, other in pairwise(self._events)
            )
        enqueue = enqueue_end - enqueue_start
        self.rows.append((copied_in, computing, copied_out, enqueue, total - flushed))

    def close(self) -> None:
        """Free the events and the buffer that empties the cache."""
        with self._device.current():
            self._resources.close()

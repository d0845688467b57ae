"""Where the time of an engine's inference goes, summarised."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gsp_deploy.benchmark.timing import Latency


@dataclass(frozen=True)
class StageTimes:
    """Where the time of one inference goes, milliseconds.

    Attributes:
        to_device: copy of the batch from page-locked host memory, by events.
        compute: the network, by events.
        from_device: copy of the embeddings to page-locked host memory, by events.
        enqueue: what the host does to start the network.
        end_to_end: from a batch in page-locked memory to its embeddings there, by the clock.
    """

    to_device: Latency
    compute: Latency
    from_device: Latency
    enqueue: Latency
    end_to_end: Latency

    @classmethod
    def of(cls, seconds: np.ndarray) -> StageTimes:
        """Summarise times `(rounds, 5)` in seconds, in the order of `runtime.timeline.STAGES`."""
        return cls(*(Latency.of(column) for column in seconds.T))

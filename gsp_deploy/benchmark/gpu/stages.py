"""Summarise the stages of an engine's inference."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gsp_deploy.benchmark.timing import Latency


@dataclass(frozen=True)
class StageTimes:
    """Times of the stages of one inference, in milliseconds.

    Attributes:
        to_device: copy of the batch from page-locked host memory, by CUDA events.
        compute: the network, by CUDA events.
        from_device: copy of the embeddings to page-locked host memory, by CUDA events.
        enqueue: the host's work to start the network.
        end_to_end: from a batch in page-locked memory to its embeddings there, by the host's clock.
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

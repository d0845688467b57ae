"""The result of one engine at one batch size on a GPU."""

from __future__ import annotations

from dataclasses import dataclass

from gsp_deploy.benchmark.gpu.layers import LayerProfile
from gsp_deploy.benchmark.gpu.stages import StageTimes
from gsp_deploy.benchmark.gpu.sustained import Sustained


@dataclass(frozen=True)
class ComputeCost:
    """A model's GPU compute relative to its twin with average pooling, in the same rounds.

    Attributes:
        ratio: median over rounds of the model's time divided by the twin's.
        ratio_low, ratio_high: quartiles of these ratios.
        extra_ms: median over rounds of the difference, in milliseconds.
    """

    ratio: float
    ratio_low: float
    ratio_high: float
    extra_ms: float


@dataclass(frozen=True)
class GpuResult:
    """One engine at one batch size.

    Attributes:
        with_graphs: stages with CUDA graphs; None if the engine runs without.
        without_graphs: stages without CUDA graphs, in the same rounds.
        no_graphs: why there are no CUDA graphs; None if there are.
        cost: compute relative to the twin; None if there is no twin.
        layers: time by layer; None if the ONNX file is not next to the engine.
        sustained: a run without pause; None if you did not ask for one.
    """

    with_graphs: StageTimes | None
    without_graphs: StageTimes
    no_graphs: str | None
    cost: ComputeCost | None = None
    layers: LayerProfile | None = None
    sustained: Sustained | None = None

    @property
    def stages(self) -> StageTimes:
        """The stages with CUDA graphs if there are any, else without."""
        return self.without_graphs if self.with_graphs is None else self.with_graphs

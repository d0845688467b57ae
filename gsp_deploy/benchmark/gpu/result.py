"""What was found of one engine at one batch size on a GPU."""

from __future__ import annotations

from dataclasses import dataclass

from gsp_deploy.benchmark.gpu.layers import LayerProfile
from gsp_deploy.benchmark.gpu.stages import StageTimes
from gsp_deploy.benchmark.gpu.sustained import Sustained


@dataclass(frozen=True)
class ComputeCost:
    """GPU compute of a model by that of its twin with average pooling, in the same rounds.

    Attributes:
        ratio: median over rounds; with its quartiles.
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
        with_graphs: stages with CUDA graphs; None where there are none.
        without_graphs: stages without, in the same rounds.
        no_graphs: why there are none, if so.
        cost: against the twin; None without one.
        layers: where the compute goes; None where the ONNX file is not beside the engine.
        sustained: a run without pause; None if not asked for.
    """

    with_graphs: StageTimes | None
    without_graphs: StageTimes
    no_graphs: str | None
    cost: ComputeCost | None = None
    layers: LayerProfile | None = None
    sustained: Sustained | None = None

    @property
    def stages(self) -> StageTimes:
        """The stages as the settings ask for them: with graphs where there are any."""
        return self.without_graphs if self.with_graphs is None else self.with_graphs

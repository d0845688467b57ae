"""An adopted network in the form that the quantiser takes: all of it is backbone."""

from __future__ import annotations

from dataclasses import dataclass, replace

import onnx_ir as ir

from gsp_deploy.config import ModelConfig
from gsp_deploy.export.options import ExportOptions
from gsp_deploy.export.transport import SolverPlan


@dataclass(frozen=True, eq=False)
class AdoptedDraft:
    """A network from images to `embedding`, to be quantised.

    Attributes:
        config: the model.
        options: method of calibration and allowed drop.
        backbone: the whole graph; never changed in place.
    """

    config: ModelConfig
    options: ExportOptions
    backbone: ir.Model

    def variant(self, backbone: ir.Model, options: ExportOptions | None = None) -> AdoptedDraft:
        """Return the same model with another graph, or under other options."""
        return replace(self, backbone=backbone, options=options or self.options)

    def assemble(self, plan: SolverPlan, outputs: tuple[str, ...]) -> ir.Model:
        """Return a fresh copy of the graph; there is no head to append."""
        return self.backbone.clone()

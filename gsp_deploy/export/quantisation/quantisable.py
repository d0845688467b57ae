"""What the quantiser needs of a model: a float32 graph, and how to make a whole model from it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import onnx_ir as ir

from gsp_deploy.config import ModelConfig
from gsp_deploy.export.options import ExportOptions
from gsp_deploy.export.transport import SolverPlan

if TYPE_CHECKING:
    from typing_extensions import Self


class Quantisable(Protocol):
    """A backbone to quantise: of a checkpoint, with its head; or an adopted network."""

    @property
    def config(self) -> ModelConfig:
        """The model."""

    @property
    def options(self) -> ExportOptions:
        """The method of calibration and the allowed drop."""

    @property
    def backbone(self) -> ir.Model:
        """The float32 graph with one input; never changed in place."""

    def variant(self, backbone: ir.Model, options: ExportOptions | None = None) -> Self:
        """Return the same head on another form of the backbone, or under other options."""

    def assemble(self, plan: SolverPlan, outputs: tuple[str, ...]) -> ir.Model:
        """Return the whole model, from images to `embedding`."""

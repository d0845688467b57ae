"""The result of a comparison along the graph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gsp_deploy.errors import GateError
from gsp_deploy.parity.distribution import finite
from gsp_deploy.parity.gates import figure


@dataclass(frozen=True)
class NodeError:
    """The error of one node's result.

    Attributes:
        value: name of the value, the same in both graphs.
        node, op: the candidate's node and its operator.
        module: the node's PyTorch module; empty if unknown.
        error: RMS of the difference over RMS of the reference, over all images.
        growth: how much larger that is than the largest error of the node's inputs.
        max_absolute: largest difference of a single number.
        non_finite: how many of the candidate's numbers are NaN or infinite.
    """

    value: str
    node: str
    op: str
    module: str
    error: float
    growth: float
    max_absolute: float
    non_finite: int

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-able data."""
        return {
            "value": self.value,
            "node": self.node,
            "op": self.op,
            "module": self.module,
            "error": finite(self.error),
            "growth": finite(self.growth),
            "max_absolute": finite(self.max_absolute),
            "non_finite": self.non_finite,
        }


@dataclass(frozen=True)
class LayerReport:
    """Errors along the graph, in the order of computation.

    Attributes:
        reference, candidate: the files.
        images: number of images.
        threshold: the error beyond which a node counts as divergent.
        nodes: every node that could be compared.
    """

    reference: str
    candidate: str
    images: int
    threshold: float
    nodes: tuple[NodeError, ...]

    @property
    def first(self) -> NodeError | None:
        """The first node with an error above the threshold."""
        return next((node for node in self.nodes if not node.error <= self.threshold), None)

    def largest_growth(self, count: int = 5) -> tuple[NodeError, ...]:
        """Return the nodes by how much they add to the error, largest first."""
        return tuple(sorted(self.nodes, key=lambda node: node.growth, reverse=True)[:count])

    def raise_on_failure(self) -> None:
        """Raise `GateError` naming the first divergent node and its module, if there is one."""
        if self.first is not None:
            module = f" (module {self.first.module})" if self.first.module else ""
            raise GateError(
                f"{self.candidate} first diverges at node {self.first.node}, "
                f"{self.first.op}{module}: error {figure(self.first.error)}, "
                f"expected at most {figure(self.threshold)}; --max-layer-error sets the limit"
            )

    def to_dict(self) -> dict[str, Any]:
        """Return the whole report as JSON-able data."""
        return {
            "reference": self.reference,
            "candidate": self.candidate,
            "images": self.images,
            "threshold": self.threshold,
            "passed": self.first is None,
            "first_divergent": self.first and self.first.to_dict(),
            "largest_growth": [node.value for node in self.largest_growth()],
            "nodes": [node.to_dict() for node in self.nodes],
        }

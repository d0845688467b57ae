"""How many ONNX nodes the pooling takes: PyTorch's exporter on the loop, and this package's export.

Deterministic: no clock, no device.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import onnx
import torch
from conditions import conditions, publish
from torch import Tensor, nn
from unrolled import BATCH, DIM, LOCATIONS, PROTOTYPES, inputs, unrolled

from gsp_deploy import EmbeddingModel, GSPConfig, ModelConfig
from gsp_deploy.config import FEATURES
from gsp_deploy.export import ExportOptions, export_onnx

EXPORTS = {
    "this package, fixed-point, 100 steps": ExportOptions(solver="fixed-point", iterations=100),
    "this package, newton, what the hardest inputs need": ExportOptions(solver="newton"),
    "this package, certified": ExportOptions(),
}


class Loop(nn.Module):
    """The paper's iteration as one would first write it, to be exported."""

    def __init__(self) -> None:
        super().__init__()
        self.prototypes = nn.Parameter(inputs()[1])

    def forward(self, embeddings: Tensor) -> Tensor:
        """Pool `(B, D, H, W)` to `(B, D)` by 100 steps."""
        return unrolled(embeddings, self.prototypes, 100).embedding


def main() -> None:
    """Export each form and count."""
    asked = _arguments()
    about = conditions(asked.threads, sizes=f"B={BATCH} N={LOCATIONS} D={DIM} M={PROTOTYPES}")
    torch.manual_seed(0)
    config = GSPConfig(DIM, embedding_dim=DIM, num_prototypes=PROTOTYPES)
    head = EmbeddingModel(ModelConfig(FEATURES, config, None)).eval()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "loop.onnx"
        torch.onnx.export(Loop().eval(), (inputs()[0],), path, dynamo=True, verbose=False)
        counts = {"torch.onnx.export of the loop, 100 steps": nodes(path)}
        for name, options in EXPORTS.items():
            exported = export_onnx(head, Path(folder) / f"{options.solver}.onnx", options)
            counts[name] = nodes(exported.path)
    results = [{"form": form, "nodes": count} for form, count in counts.items()]
    rows = [(form, str(count)) for form, count in counts.items()]
    publish("nodes", about, results, ("pooling head", "ONNX nodes"), rows, asked.json)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def nodes(path: Path) -> int:
    """Return how many nodes the graph of a file has."""
    return len(onnx.load(path, load_external_data=False).graph.node)


if __name__ == "__main__":
    main()

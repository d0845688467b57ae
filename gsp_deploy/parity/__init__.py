"""Compare a model with the one that it was made from: errors, neighbours, batching, gates.

    with open_session("model.safetensors") as reference, open_rounding("model.onnx") as candidate:
        report = compare_sessions(reference, candidate, images, labels)
    report.raise_on_failure()

This needs numpy and faiss. The search along the graph, `gsp_deploy.parity.layers`, needs onnx too.
"""

from __future__ import annotations

from gsp_deploy.parity.distribution import Distribution
from gsp_deploy.parity.figures import ParityFigures
from gsp_deploy.parity.files import compare_files, image_reader
from gsp_deploy.parity.gates import Gate
from gsp_deploy.parity.report import ParityReport, compare_sessions
from gsp_deploy.parity.rounding import open_rounding
from gsp_deploy.precision import TOLERANCES, Tolerances, tolerances_for

__all__ = [
    "TOLERANCES",
    "Distribution",
    "Gate",
    "ParityFigures",
    "ParityReport",
    "Tolerances",
    "compare_files",
    "compare_sessions",
    "image_reader",
    "open_rounding",
    "tolerances_for",
]

"""Measure latency, memory and the cost of the pooling, for several models in one run.

report = run_benchmark(["model.onnx"], BenchmarkSettings(batches=(1, 8), threads=2))
report.models[0].batches[0].pooling_cost.ratio   # times the same network with average pooling
"""

from __future__ import annotations

from gsp_deploy.benchmark.comparison import Comparison, check_settings, compare
from gsp_deploy.benchmark.report import BenchmarkReport, read_report
from gsp_deploy.benchmark.run import run_benchmark
from gsp_deploy.benchmark.settings import BenchmarkSettings

__all__ = [
    "BenchmarkReport",
    "BenchmarkSettings",
    "Comparison",
    "check_settings",
    "compare",
    "read_report",
    "run_benchmark",
]

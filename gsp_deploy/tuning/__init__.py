"""Choose how to deploy a model: accuracy against latency, by precision, steps, size and batch.

tuning = tune("model.safetensors", open_dataset("cub:PATH"), "runs/tune")
deliver(tuning, choose(tuning.points, Limits(max_latency=5.0)), Path("model.onnx"))
"""

from __future__ import annotations

from gsp_deploy.tuning.delivery import deliver
from gsp_deploy.tuning.front import Limits, Point, choose
from gsp_deploy.tuning.run import Tuning, tune
from gsp_deploy.tuning.settings import TIMING, TuningSettings
from gsp_deploy.tuning.space import Candidate, TuningSpace

__all__ = [
    "TIMING",
    "Candidate",
    "Limits",
    "Point",
    "Tuning",
    "TuningSettings",
    "TuningSpace",
    "choose",
    "deliver",
    "tune",
]

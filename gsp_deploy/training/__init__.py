"""Train embedding models: recipes, losses, and runs that you can resume after a kill."""

from __future__ import annotations

from gsp_deploy.training.loop import train
from gsp_deploy.training.recipe import Recipe, parse_recipe
from gsp_deploy.training.recipe_files import load_recipe
from gsp_deploy.training.records import (
    DivergenceError,
    Observer,
    RunPlan,
    StepRecord,
    TrainingResult,
)

__all__ = [
    "DivergenceError",
    "Observer",
    "Recipe",
    "RunPlan",
    "StepRecord",
    "TrainingResult",
    "load_recipe",
    "parse_recipe",
    "train",
]

"""The commands of docs/paper.md are valid: each recipe and setting, on each benchmark."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gsp_deploy.training.recipe_files import load_recipe

PAGE = (Path(__file__).parents[2] / "docs" / "paper.md").read_text(encoding="utf-8")
RECIPES = sorted(set(re.findall(r"gsp-deploy train (\S+)", PAGE)))
ROWS = [
    re.findall(r"--set (\S+?=[^`\s]+)", line)
    for line in PAGE.splitlines()
    if line.startswith("|") and "--set" in line
]


def test_the_page_has_recipes_and_settings() -> None:
    assert len(RECIPES) == 3
    assert len(ROWS) > 8


@pytest.mark.parametrize("kind", ["cub", "cars", "sop", "inshop"])
@pytest.mark.parametrize("recipe", RECIPES)
def test_every_setting_fits_every_recipe(recipe: str, kind: str) -> None:
    for settings in ROWS:
        found = load_recipe(recipe, [f"data.spec={kind}:somewhere", *settings])
        assert found.head.kind == ("gap" if "head.kind=gap" in settings else "gsp")
    for word in re.findall(r"the same with `(\S+)`", PAGE):
        proxy = next(row for row in ROWS if "loss.kind=proxy-anchor" in row)
        assert load_recipe(recipe, [f"data.spec={kind}:x", *proxy, word]).loss.kind == "proxy-nca"

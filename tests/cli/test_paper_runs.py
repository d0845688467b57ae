"""A dry run of docs/paper.md: its commands, for a step each, on tiny data laid out as the real."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from benchmark_layouts import LAYOUTS, ONE_STEP

from gsp_deploy.data import open_dataset
from gsp_deploy.training import load_recipe, train

PAGE = (Path(__file__).parents[2] / "docs" / "paper.md").read_text(encoding="utf-8")
FOLDS = re.findall(r"gsp-deploy (train mlrc.+)", PAGE)
EVALUATED = re.findall(r"gsp-deploy (evaluate .+) > ", PAGE)
SINGLE = re.findall(r"gsp-deploy (train conventional.+)", PAGE)
ROWS = [
    re.findall(r"--set (\S+?=[^`\s]+)", line)
    for line in PAGE.splitlines()
    if line.startswith("|") and "--set" in line
]
PROXY = next(row for row in ROWS if "loss.kind=proxy-anchor" in row)
ROWS += [[*PROXY, word] for word in re.findall(r"the same with `(\S+)`", PAGE)]
TINY = (*ONE_STEP, "prototypes.memory=16")


@pytest.fixture(scope="module", params=LAYOUTS)
def spec(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the spec of a tiny benchmark: `cub:PATH`."""
    root = tmp_path_factory.mktemp(request.param)
    LAYOUTS[request.param](root)
    return f"{request.param}:{root}"


def words(line: str, spec: str, **names: object) -> list[str]:
    """Return a command's words, with `$k` and `cub:PATH` replaced."""
    for name, value in names.items():
        line = line.replace(f"${name}", str(value))
    return line.replace("cub:PATH", spec).split()


@pytest.mark.slow
def test_the_reality_check_from_training_to_the_ensemble(
    spec: str, run_here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert (len(FOLDS), len(EVALUATED)) == (1, 1)
    tiny = [word for setting in TINY for word in ("--set", setting)]
    for fold in (1, 2):
        command = words(FOLDS[0].replace("0,1,2", "0"), spec, k=fold)
        code, _, err = run_here(*command, *tiny)
        assert code == 0, err
    verb, pattern, *options = words(EVALUATED[0], spec, s=0)
    models = sorted(Path().glob(pattern))
    assert len(models) == 2
    code, out, err = run_here(verb, *models, *options)
    assert code == 0, err
    found = json.loads(out)
    assert found["separated"].keys() == found["concatenated"].keys()


@pytest.mark.slow
@pytest.mark.parametrize("line", SINGLE)
def test_the_conventional_protocol(line: str, run_here, tmp_path: Path) -> None:
    LAYOUTS["cub"](tmp_path / "cub")
    tiny = [word for setting in TINY for word in ("--set", setting)]
    command = words(line.replace("0,1,2", "3"), f"cub:{tmp_path / 'cub'}")
    code, _, err = run_here(*command, "-o", tmp_path / "run", *tiny)
    assert code == 0, err


@pytest.mark.slow
@pytest.mark.parametrize("settings", ROWS, ids=lambda settings: settings[-1])
def test_a_step_of_each_loss_and_ablation(settings: list[str], tmp_path: Path) -> None:
    LAYOUTS["cub"](tmp_path / "cub")
    # With one image of each class, a batch cannot be larger than the six or seven classes left.
    small = ["sampler.batch_size=4"] if "sampler.images_per_class=1" in settings else []
    overrides = [f"data.spec=cub:{tmp_path / 'cub'}", *TINY, *small, *settings]
    recipe = load_recipe("mlrc-bn-inception", overrides)
    assert train(recipe, tmp_path / "run", dataset=open_dataset(recipe.data.spec)).steps == 1

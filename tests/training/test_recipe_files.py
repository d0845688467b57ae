"""Recipe files extend each other; each shipped recipe is valid and takes a step."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmark_layouts import ONE_STEP, cub

from gsp_deploy.data import open_dataset
from gsp_deploy.errors import ConfigError
from gsp_deploy.training import train
from gsp_deploy.training.recipe import parse_recipe
from gsp_deploy.training.recipe_files import load_recipe, tables_of

from .tiny import RECIPE

MODELS = Path(__file__).parents[2] / "models"
SHIPPED = sorted(path.name for path in MODELS.glob("*.toml"))
BENCHMARKS = ("cub", "cars", "sop", "inshop")


def test_what_counts_most_comes_last(tmp_path):
    """The extended file, the file, its tables for the kind of data set, the overrides."""
    (tmp_path / "base.toml").write_text(
        parse_recipe(RECIPE).to_toml() + "[on.sop.gsp]\nnum_prototypes = 6\ntransport_ratio = 0.5\n"
    )
    path = tmp_path / "recipe.toml"
    path.write_text(
        'extends = "base.toml"\n[head]\nembedding_dim = 16\n[run]\nepochs = 3\n'
        '[loss]\nkind = "triplet"\n[on.sop.gsp]\nnum_prototypes = 7\n[on.cub.run]\nsteps = 9\n'
    )
    plain = load_recipe(path)
    assert plain.head.embedding_dim == 16
    assert plain.model.backbone_options == {"width": 4}  # the base's
    assert (plain.run.epochs, plain.run.steps) == (3, None)  # not the base's steps
    assert plain.loss.kind == "triplet"  # without the base's settings of another kind of loss
    assert plain.gsp.num_prototypes == 4
    on_sop = load_recipe(path, ["data.spec=sop:x"])
    assert (on_sop.gsp.num_prototypes, on_sop.gsp.transport_ratio) == (7, 0.5)
    assert load_recipe(path, ["data.spec=cub:x"]).run.steps == 9
    assert load_recipe(path, ["data.spec=sop:x", "gsp.num_prototypes=8"]).gsp.num_prototypes == 8
    assert parse_recipe(tables_of(on_sop.to_toml(), "its own")) == on_sop  # stands by itself


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('extends = "absent.toml"', "absent.toml: no such recipe that recipe.toml extends"),
        ('extends = "recipe.toml"', "extends recipe.toml, which extends this file again"),
        ("extends = 3", "extends must be the name of a recipe file, got 3"),
        ("[on.cup.run]\nsteps = 3", "on.cup: there is no such kind of data set; the kinds are gly"),
        ("on = 3", "on: expected tables such as [on.glyphs.run]"),
    ],
)
def test_a_wrong_file_is_named(tmp_path, text, said):
    path = tmp_path / "recipe.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_recipe(path)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_bare_name_is_a_recipe_that_ships(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_recipe("glyphs-quick") == load_recipe(MODELS / "glyphs-quick.toml")
    for gone in ("glyphs-quik", "elsewhere/glyphs-quick"):
        with pytest.raises(
            ConfigError, match=r"no such recipe; pass a file, or one of .*glyphs-quick"
        ):
            load_recipe(gone)
    Path("mine.toml").write_text('extends = "glyphs-quick"\n[run]\nepochs = 3\n')
    assert load_recipe("mine.toml") == load_recipe("glyphs-quick", ["run.epochs=3"])
    Path("mine.toml").write_text('extends = "glyphs-quick.toml"')
    with pytest.raises(ConfigError, match=r"that mine.toml extends; .*\(without .toml\)"):
        load_recipe("mine.toml")
    Path("glyphs-quick").write_text("no recipe")
    with pytest.raises(ConfigError, match="not a TOML recipe"):
        load_recipe("glyphs-quick")


@pytest.mark.parametrize("name", SHIPPED)
@pytest.mark.parametrize("kind", [*BENCHMARKS, "folder"])
def test_each_shipped_recipe_is_valid_on_each_kind_of_data(name, kind):
    recipe = load_recipe(MODELS / name, [f"data.spec={kind}:PATH"])
    assert recipe.run.evaluate_every
    assert recipe.sampler.batch_size


@pytest.mark.parametrize("backbone", ["bn-inception", "resnet50"])
@pytest.mark.parametrize("kind", BENCHMARKS)
def test_the_papers_settings(backbone, kind):
    """As in the authors' configurations; prototypes and memory grow with the data set."""
    large = kind in ("sop", "inshop")
    batch = {"bn-inception": 128, "resnet50": 112}[backbone]
    batches = {"sop": 1400, "inshop": 400}.get(kind, {"bn-inception": 50, "resnet50": 25}[backbone])
    spec = [f"data.spec={kind}:PATH"]
    mlrc = load_recipe(MODELS / f"mlrc-{backbone}.toml", spec)
    assert (mlrc.head.embedding_dim, mlrc.data.fold, mlrc.sampler.batch_size) == (128, "1/4", 32)
    assert mlrc.xbm.size == 32 * {"sop": 1400, "inshop": 400}.get(kind, 25)
    single = load_recipe(MODELS / f"conventional-{backbone}.toml", spec)
    assert (single.head.embedding_dim, single.data.fold) == (512, "")
    assert (single.sampler.batch_size, single.xbm.size) == (batch, batch * batches)
    assert single.optimiser.lr == (1e-4 if large else 1e-5)
    for recipe in (mlrc, single):
        assert recipe.gsp.num_prototypes == (128 if large else 64)
        assert (recipe.gsp.transport_ratio, recipe.gsp.entropy_weight) == (0.3, 5.0)
        assert (recipe.gsp.solver, recipe.gsp.iterations) == ("fixed-point", 100)
        assert (recipe.zsr.weight, recipe.loss.kind) == (0.1, "cosine-contrastive")


@pytest.fixture(scope="module")
def benchmark_folder(tmp_path_factory):
    """CUB's layout with two images of each of 18 classes, nine on either side of the split."""
    root = tmp_path_factory.mktemp("cub")
    cub(root)
    return root


SMALL = (*ONE_STEP, "prototypes.memory=64")


@pytest.mark.parametrize("name", SHIPPED)
def test_a_step_of_each_shipped_recipe(name, benchmark_folder, tmp_path):
    """On another data set of a benchmark's layout, small images and a small batch."""
    recipe = load_recipe(MODELS / name, [f"data.spec=cub:{benchmark_folder}", *SMALL])
    result = train(recipe, tmp_path / "run", dataset=open_dataset(recipe.data.spec))
    assert result.steps == 1
    assert (tmp_path / "run" / "last.safetensors").exists()


def test_another_kind_of_loss_starts_without_the_old_ones_settings() -> None:
    overrides = ["data.spec=cub:x", "loss.margin=0.3", "xbm.size=0", "loss.kind=triplet"]
    loss = load_recipe("mlrc-bn-inception", [*overrides, "loss.margin=0.2"]).loss
    assert (loss.kind, loss.margin) == ("triplet", 0.2)
    same = ["data.spec=cub:x", "loss.negative_margin=0.4", "loss.kind=cosine-contrastive"]
    assert load_recipe("mlrc-bn-inception", same).loss.negative_margin == 0.4

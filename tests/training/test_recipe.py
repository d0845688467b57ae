"""Valid recipes are accepted, and every mistake is named in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from gsp_deploy.config import BaselineConfig, GSPConfig
from gsp_deploy.errors import ConfigError
from gsp_deploy.training.recipe import parse_recipe
from gsp_deploy.training.recipe_files import load_recipe, tables_of
from gsp_deploy.training.sections import head_config

from .tiny import RECIPE, recipe_with

MODELS = Path(__file__).parents[2] / "models"
SHIPPED = sorted(MODELS.glob("*.toml"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
@pytest.mark.parametrize("head", ["gap", "gmp", "gem", "gap+gmp"])
def test_a_baseline_is_one_word_away(path, head):
    recipe = load_recipe(path, [f"head.kind={head}"])
    assert head_config(recipe.head, recipe.gsp, 8) == BaselineConfig(
        8, recipe.head.embedding_dim, pooling=head, bias=recipe.head.bias
    )
    assert recipe.set_aside == ("gsp", "zsr", "prototypes")
    assert not recipe.uses_zsr


def test_every_setting_of_the_head_is_reachable():
    recipe = recipe_with(
        head={"kind": "gsp", "embedding_dim": 8, "normalize": False, "bias": False},
        gsp={
            "num_prototypes": 3,
            "transport_ratio": 0.5,
            "entropy_weight": 20,
            "iterations": 7,
            "solver": "fixed-point",
            "pooling": "gem",
            "max_residual": True,
            "initial_scale": 1.0,
        },
    )
    assert head_config(recipe.head, recipe.gsp, 16) == GSPConfig(
        in_channels=16,
        embedding_dim=8,
        num_prototypes=3,
        transport_ratio=0.5,
        entropy_weight=20,
        iterations=7,
        solver="fixed-point",
        pooling="gem",
        max_residual=True,
        normalize=False,
        bias=False,
        initial_scale=1.0,
    )


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"loss__margn": 1},
            "loss.margn: there is no such setting; [loss] knows kind, margin",
        ),
        ({"gsp__prototypes": 4}, "gsp.prototypes: there is no such setting; [gsp] knows num_pro"),
        ({"extra": {}}, "extra: there is no such setting; the sections are model, head"),
        ({"gsp__transport_ratio": 1.4}, "gsp.transport_ratio: expected less than or equal to 1"),
        ({"optimiser__lr": float("nan")}, "optimiser.lr: expected a finite number, got nan"),
        ({"optimiser__lr": "fast"}, "optimiser.lr: expected a valid number, got 'fast'"),
        ({"optimiser": {}}, "optimiser.lr: this setting is missing"),
        ({"sampler__batch_size": 8.5}, "sampler.batch_size: expected a valid integer, got 8.5"),
        ({"sampler__batch_size": 10}, "sampler: batch_size must be a multiple of images_per_cl"),
        ({"loss": {}}, "loss.kind: this setting is missing; it is one of contrastive, cosine-con"),
        ({"loss__kind": "softmax"}, "loss.kind: expected one of contrastive, cosine-"),
        ({"loss": {"kind": "triplet", "margin": -1}}, "loss.margin: expected greater than 0"),
        ({"head__kind": "max"}, "head.kind"),
        ({"run__epochs": 3}, "run: expected either epochs or steps, got both or neither; give one"),
        ({"run__device": "gpu"}, "run.device"),
        ({"augmentation__crop_area": [0.9, 0.5]}, "crop_area: expected [smallest, largest]"),
        ({"augmentation__crop_area": [0.9, 1.5]}, "at most 1"),
        ({"preprocessing__std": [1.0, 0.0, 1.0]}, "std must be above 0"),
        ({"xbm__size": 64}, "xbm.size: a memory is for pair losses, not proxy-anchor"),
        ({"loss__kind": "contrastive", "xbm__size": 4}, "must have room for a whole batch"),
        ({"data__validation_fraction": 0.0, "run__patience": 2}, "need held-out classes"),
        ({"data__fold": "5/4"}, "data.fold: expected K/N with K from 1 to N and N at least 2"),
        ({"data__fold": "1/1"}, "as in 1/4, got '1/1'"),
        ({"loss": {"kind": "cosine-contrastive", "negative_margin": 2}}, "loss.negative_margin"),
        (
            {"loss__kind": "triplet", "zsr__enabled": False, "prototypes__init": "class-weights"},
            "needs a proxy loss or zsr.enabled = true",
        ),
    ],
)
def test_a_mistake_is_named_in_one_line(changes, said):
    with pytest.raises(ConfigError) as caught:
        recipe_with(**changes)
    message = str(caught.value)
    assert said in message
    assert message.startswith("recipe: ")
    assert "\n" not in message


def test_toml_goes_round():
    recipe = recipe_with(
        model__backbone_options={"width": 4, "name with space": [1, "é"]},
        augmentation__crop_area=[0.5, 1.0],
        loss={"kind": "triplet", "margin": 0.2},
        provenance__notes='quotes " and \\ backslashes\nand lines',
    )
    assert parse_recipe(tables_of(recipe.to_toml(), "test")) == recipe


def test_overrides_are_typed_as_in_toml(tmp_path):
    path = tmp_path / "recipe.toml"
    path.write_text(parse_recipe(RECIPE).to_toml())
    recipe = load_recipe(
        path,
        [
            "head.kind=gap",
            "optimiser.lr = 1e-4",
            "augmentation.crop_area=[0.5, 1]",
            "model.backbone_options.width=8",
            "zsr.enabled=false",
            "run.epochs=7",
        ],
    )
    assert (recipe.head.kind, recipe.optimiser.lr, recipe.zsr.enabled) == ("gap", 1e-4, False)
    assert recipe.augmentation.crop_area == (0.5, 1)
    assert recipe.model.backbone_options == {"width": 8}
    assert (recipe.run.epochs, recipe.run.steps) == (7, None)  # the length given last counts


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("lr=3", "expected section.key=value, got 'lr=3'"),
        ("optimiser.lr", "expected section.key=value"),
        ("optimiser.lr.x=3", "lr is not a table"),
        ("optimiser.lr=-3", "optimiser.lr: expected greater than 0, got -3"),
    ],
)
def test_a_wrong_override_is_named(tmp_path, override, said):
    path = tmp_path / "recipe.toml"
    path.write_text(parse_recipe(RECIPE).to_toml())
    with pytest.raises(ConfigError) as caught:
        load_recipe(path, [override])
    assert said in str(caught.value)


def test_files_that_are_no_recipe(tmp_path):
    with pytest.raises(ConfigError, match="no such recipe"):
        load_recipe(tmp_path / "absent.toml")
    broken = tmp_path / "broken.toml"
    broken.write_text("[model\n")
    with pytest.raises(ConfigError, match="not a TOML recipe"):
        load_recipe(broken)
    with pytest.raises(ConfigError, match="not a TOML recipe"):
        load_recipe(tmp_path)


def test_differences_that_matter_are_found():
    recipe = recipe_with()
    assert recipe.differences(recipe_with(run__workers=3, run__save_every=1)) == {}
    assert list(recipe.differences(recipe_with(optimiser__lr=0.1))) == ["optimiser.lr"]
    assert "loss.alpha" in recipe.differences(recipe_with(loss__kind="triplet"))

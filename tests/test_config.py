"""Configs are valid on construction, and plain data keeps them unchanged."""

from __future__ import annotations

import dataclasses
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gsp_deploy.config import (
    AdoptedHead,
    BaselineConfig,
    GSPConfig,
    ModelConfig,
    PreprocessingSpec,
    head_from_dict,
)
from gsp_deploy.errors import ConfigError, GspDeployError, UsageError, reason_of

SPEC = PreprocessingSpec(32, 48)

positive = st.integers(1, 4096)
heads = st.one_of(
    st.builds(
        GSPConfig,
        in_channels=positive,
        embedding_dim=positive,
        num_prototypes=positive,
        transport_ratio=st.floats(1e-6, 1),
        entropy_weight=st.floats(1e-6, 1e6),
        iterations=st.none() | st.integers(1, 500),
        solver=st.sampled_from(["fixed-point", "newton"]),
        pooling=st.sampled_from(["gap", "gmp", "gem"]),
        max_residual=st.booleans(),
        normalize=st.booleans(),
        bias=st.booleans(),
        initial_scale=st.none() | st.floats(1e-6, 10),
    ),
    st.builds(
        BaselineConfig,
        in_channels=positive,
        embedding_dim=positive,
        pooling=st.sampled_from(["gap", "gmp", "gem", "gap+gmp"]),
        normalize=st.booleans(),
        bias=st.booleans(),
    ),
)
specs = st.builds(
    PreprocessingSpec,
    height=positive,
    width=positive,
    mean=st.tuples(*[st.floats(-5, 5)] * 3),
    std=st.tuples(*[st.floats(1e-3, 5)] * 3),
    interpolation=st.sampled_from(["bilinear", "bicubic"]),
    resize=st.sampled_from(["crop", "stretch"]),
    crop_ratio=st.floats(0.01, 1),
)


@given(heads, specs, st.dictionaries(st.text("abc", min_size=1), st.integers() | st.booleans()))
def test_a_config_comes_back_from_json_as_it_was(head, spec, options):
    config = ModelConfig("resnet18", head, spec, options)
    assert ModelConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@given(heads)
def test_a_head_alone_comes_back_too(head):
    config = ModelConfig("features", head, None)
    assert config.is_head_only
    assert ModelConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize(("solver", "steps"), [("fixed-point", 100), ("newton", 20)])
def test_each_solver_has_its_own_number_of_steps(solver, steps):
    assert GSPConfig(4, solver=solver).steps == steps
    assert GSPConfig(4, solver=solver, iterations=7).steps == 7


def test_a_config_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        GSPConfig(4).transport_ratio = 0.5  # type: ignore[misc]


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"in_channels": 0}, "in_channels"),
        ({"in_channels": True}, "in_channels"),
        ({"in_channels": 4.0}, "in_channels"),
        ({"embedding_dim": -1}, "embedding_dim"),
        ({"num_prototypes": "8"}, "num_prototypes"),
        ({"iterations": 0}, "iterations"),
        ({"transport_ratio": 0}, "transport_ratio"),
        ({"transport_ratio": 1.4}, "transport_ratio"),
        ({"transport_ratio": math.nan}, "transport_ratio"),
        ({"transport_ratio": True}, "transport_ratio"),
        ({"entropy_weight": 0.0}, "entropy_weight"),
        ({"entropy_weight": math.inf}, "entropy_weight"),
        ({"entropy_weight": 10**400}, "entropy_weight"),
        ({"entropy_weight": "5"}, "entropy_weight"),
        ({"initial_scale": -1.0}, "initial_scale"),
        ({"solver": "sinkhorn"}, "fixed-point, newton"),
        ({"solver": ["newton"]}, "solver"),
        ({"pooling": "gap+gmp"}, "gap, gmp, gem"),
        ({"normalize": 1}, "normalize"),
        ({"bias": None}, "bias"),
        ({"max_residual": "no"}, "max_residual"),
    ],
)
def test_a_head_outside_its_domain_is_refused_by_name(settings, named):
    with pytest.raises(ConfigError, match=named) as caught:
        GSPConfig(**{"in_channels": 4, **settings})
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"height": 0}, "height"),
        ({"width": 2.5}, "width"),
        ({"mean": (0.5, 0.5)}, "mean"),
        ({"mean": "123"}, "mean"),
        ({"mean": 0.5}, "mean"),
        ({"mean": (0.5, 0.5, math.nan)}, "mean"),
        ({"mean": (0.5, 0.5, 10**400)}, "mean"),
        ({"std": (0.2, 0.2, "0.2")}, "std"),
        ({"std": (0.2, 0.0, 0.2)}, "std"),
        ({"interpolation": "nearest"}, "interpolation"),
        ({"resize": "pad"}, "resize"),
        ({"crop_ratio": 1.2}, "crop_ratio"),
    ],
)
def test_preprocessing_outside_its_domain_is_refused_by_name(settings, named):
    with pytest.raises(ConfigError, match=named):
        PreprocessingSpec(**{"height": 8, "width": 8, **settings})


@pytest.mark.parametrize("pooling", ["avg", None])
def test_baselines_have_four_poolings(pooling):
    with pytest.raises(ConfigError, match=r"gap\+gmp"):
        BaselineConfig(4, pooling=pooling)


@pytest.mark.parametrize(
    "name",
    ["", None, 3, "hf-hub:someone/model", "hf_hub:a", "local-dir:/etc", "../model", "a/b", "a b"],
)
def test_a_backbone_is_a_name_and_no_place_to_load_from(name):
    with pytest.raises(ConfigError, match="timm model name"):
        ModelConfig(name, GSPConfig(4), SPEC)


def test_a_backbone_option_cannot_make_timm_read_a_file():
    with pytest.raises(ConfigError, match="checkpoint_path"):
        ModelConfig("resnet18", GSPConfig(4), SPEC, {"checkpoint_path": "/etc/passwd"})


def test_preprocessing_is_there_exactly_when_images_are_the_input():
    with pytest.raises(ConfigError, match="pre-processing"):
        ModelConfig("resnet18", GSPConfig(4), None)
    with pytest.raises(ConfigError, match="pre-processing"):
        ModelConfig("features", GSPConfig(4), SPEC)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda d: d.update(colour="red"), "colour"),
        (lambda d: d.pop("backbone"), "backbone"),
        (lambda d: d.update(head=None), "head"),
        (lambda d: d["head"].pop("kind"), "head kind"),
        (lambda d: d["head"].update(kind="vlad"), "head kind"),
        (lambda d: d["head"].pop("in_channels"), "in_channels"),
        (lambda d: d["head"].update(gamma=5), "gamma"),
        (lambda d: d.update(preprocessing=[]), "preprocessing"),
        (lambda d: d["preprocessing"].update(size=3), "size"),
        (lambda d: d.update(backbone_options="x"), "backbone_options"),
    ],
)
def test_what_is_unknown_or_missing_in_a_file_is_named(change, named):
    data = ModelConfig("resnet18", GSPConfig(4), SPEC).to_dict()
    change(data)
    with pytest.raises(ConfigError, match=named):
        ModelConfig.from_dict(data)


def test_the_kind_selects_the_head():
    assert head_from_dict({"kind": "gsp", "in_channels": 4}) == GSPConfig(4)
    assert head_from_dict({"kind": "baseline", "in_channels": 4}) == BaselineConfig(4)


def test_an_adopted_network_has_no_form_in_pytorch():
    spec = PreprocessingSpec(8, 8)
    config = ModelConfig("any", AdoptedHead(5, normalize=True), spec)
    assert ModelConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    with pytest.raises(ConfigError, match="no PyTorch form"):
        _ = config.trained_head
    with pytest.raises(ConfigError, match="needs its pre-processing"):
        ModelConfig("any", AdoptedHead(5), None)
    with pytest.raises(ConfigError, match="embedding_dim must be a whole number of at least 1"):
        AdoptedHead(0)


def test_config_errors_are_usage_errors_and_value_errors():
    assert issubclass(ConfigError, UsageError)
    assert issubclass(ConfigError, ValueError)
    assert ConfigError("x").exit_code == 2
    assert GspDeployError("x").exit_code == 1


def test_foreign_errors_become_one_line():
    assert reason_of(ValueError("\nfirst\nsecond")) == "first"
    assert reason_of(ValueError()) == "ValueError"
    assert reason_of(ValueError("  \n ")) == "ValueError"

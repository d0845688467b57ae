"""Our layer in the place of the authors' own, and of a global average pooling."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from torch import Tensor, nn

from gsp_deploy import GeneralizedSumPooling, GSPConfig, adopt_layer
from gsp_deploy.errors import UsageError

CASE = "pytorch_gmeanp_mu0.3_gamma0.1_k100.npz"


class Authors(nn.Module):
    """A layer with the names, settings and results of the authors', and no computation."""

    def __init__(self, channels: int, dim: int, count: int, mode: str = "gmp") -> None:
        super().__init__()
        self.embed, self.classifier = nn.Linear(channels, dim), nn.Linear(dim, 7)
        self.prototypes = nn.Parameter(torch.rand(count, dim))
        self.is_proto_inited = nn.Parameter(torch.tensor(True), requires_grad=False)
        self.transport_ratio, self.entropy_regularizer_weight = 0.3, 0.1
        self.optimization_steps, self.pooling_method = 100, mode
        if mode == "gmeanp":
            self.power = nn.Parameter(torch.full((1, 1, 1, 1), 3.0))


class Network(nn.Module):
    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.body, self.head = nn.Identity(), head

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        scores, embedding, attributes = self.head(self.body(images))
        return scores, embedding, attributes


def test_the_authors_layer_keeps_its_weights_settings_and_results(golden: Path) -> None:
    case = dict(np.load(golden / CASE))
    dim, channels = case["embed_weight"].shape
    model = Network(Authors(channels, dim, len(case["prototypes"]), "gmeanp"))
    with torch.no_grad():
        for name in ("embed.weight", "embed.bias", "prototypes"):
            value = torch.from_numpy(case[name.replace(".", "_")])
            model.get_parameter(f"head.{name}").copy_(value)
    before, classifier = model.state_dict(), model.head.classifier
    assert adopt_layer(model.eval()) == ("head",)
    assert isinstance(model.head, GeneralizedSumPooling)
    assert not model.head.training
    after = model.state_dict()
    assert {*before} - {*after} == {"head.is_proto_inited"}
    assert all(
        torch.equal(value.flatten(), before[name].flatten()) for name, value in after.items()
    )
    scores, embedding, attributes = model(torch.from_numpy(case["features"]))
    np.testing.assert_allclose(embedding.detach(), case["embedding"], atol=1e-5)
    np.testing.assert_allclose(attributes.detach(), case["attributes"], atol=1e-5)
    assert model.head.classifier is classifier
    torch.testing.assert_close(
        nn.functional.normalize(scores - classifier.bias),
        nn.functional.normalize(embedding @ classifier.weight.T),
    )


def test_prototypes_that_theirs_would_choose_first_are_chosen_now(golden: Path) -> None:
    vectors = np.load(golden / "prototype_init.npz")
    weights = torch.from_numpy(vectors["class_weights"])
    theirs = Authors(5, weights.shape[1], len(vectors["prototypes"]))
    theirs.classifier = nn.Linear(weights.shape[1], len(weights))
    theirs.classifier.weight.data = weights
    theirs.is_proto_inited.data = torch.tensor(False)
    model = Network(theirs)
    adopt_layer(model)
    np.testing.assert_allclose(model.head.prototypes.detach(), vectors["prototypes"])


def test_with_fewer_classes_than_prototypes_the_second_class_is_repeated() -> None:
    """All distances are 0 then, and their loop takes the first class after the first."""
    theirs = Authors(5, 4, 3)
    theirs.classifier = nn.Linear(4, 2)
    theirs.is_proto_inited.data = torch.tensor(False)
    classes = theirs.classifier.weight
    model = Network(theirs)
    adopt_layer(model)
    assert torch.equal(model.head.prototypes, classes[[0, 1, 1]])


def test_a_layer_under_two_names_stays_one() -> None:
    model = Network(Authors(5, 4, 3))
    model.again = model.head
    assert adopt_layer(model) == ("head", "again")
    assert model.again is model.head


@pytest.mark.parametrize("is_map", [True, False])
def test_a_global_average_pooling_is_replaced_by_name(is_map: bool) -> None:
    pool = nn.AdaptiveAvgPool2d(1)
    inner = nn.Sequential(pool) if is_map else nn.Sequential(pool, nn.Flatten())
    model = nn.Sequential(nn.Conv2d(3, 6, 3), nn.Sequential(inner), nn.Flatten(), nn.Linear(6, 2))
    config = GSPConfig(6, 6, 4)
    assert adopt_layer(model, "1.0", config=config) == ("1.0",)
    assert model[1][0].config is config
    out = model(torch.rand(2, 3, 8, 8))
    out.sum().backward()
    assert out.shape == (2, 2)
    assert model[1][0].prototypes.grad is not None


def test_timm_keeps_working_with_it() -> None:
    model = timm.create_model("test_resnet", num_classes=5)
    channels = model.num_features
    adopt_layer(model, "global_pool", config=GSPConfig(channels, channels, 4))
    assert model(torch.rand(2, 3, 64, 64)).shape == (2, 5)


BAD: dict[str, tuple[nn.Module, dict[str, Any], str]] = {
    "nothing to replace": (nn.Sequential(nn.Conv2d(3, 5, 3)), {}, "has no pooling with"),
    "no such name": (Network(nn.Identity()), {"name": "pool"}, "it has body, head"),
    "no config": (Network(nn.AvgPool2d(2)), {"name": "head", "config": None}, "pass config"),
    "a maximum": (Network(nn.AdaptiveMaxPool2d(1)), {"name": "head"}, "not a global average"),
    "no pooling": (Network(nn.Linear(3, 5)), {"name": "head"}, "does not pool"),
    "the model itself": (Authors(5, 4, 3), {}, "is the whole model"),
    "another shape": (Network(Authors(5, 4, 3)), {"config": GSPConfig(9, 4, 3)}, "do not fit"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_replaced_is_refused_in_one_line(name: str) -> None:
    model, given, message = BAD[name]
    if "name" in given:
        given = {"config": GSPConfig(5, 5, 4), **given}
    before = list(model.children())
    with pytest.raises(UsageError, match=message) as raised:
        adopt_layer(model, **given)
    assert "\n" not in str(raised.value)
    assert list(model.children()) == before

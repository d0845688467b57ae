"""Put our layer in the place of another pooling, in somebody's model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gsp_deploy.base.constants import NORM_FLOOR
from gsp_deploy.checkpoint.authors import REFERENCE_SETTINGS, first_prototypes
from gsp_deploy.config import GSPConfig
from gsp_deploy.errors import UsageError, flattened
from gsp_deploy.layers import GeneralizedSumPooling

# The authors' names of settings and of pooling modes.
_SETTINGS = {
    "transport_ratio": "transport_ratio",
    "entropy_weight": "entropy_regularizer_weight",
    "iterations": "optimization_steps",
}
_MODES = {"gap": "gap", "gmp": "gmp", "gmeanp": "gem"}


class AuthorsPooling(GeneralizedSumPooling):
    """Our layer with the parameters' names and the results of the authors' PyTorch layer.

    It returns class scores `(B, classes)`, the normalised embedding `(B, D)` and the attributes
    `(B, M)`.
    """

    def __init__(self, config: GSPConfig, classifier: nn.Module) -> None:
        super().__init__(config)
        self.classifier = classifier

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:  # type: ignore[override]
        """Pool `features (B, C, H, W)`."""
        pooled, attributes, *_ = super().forward(features)
        scores = self.classifier(pooled.to(self.embed.weight.dtype))
        assert attributes is not None
        return scores, F.normalize(pooled, dim=1, eps=NORM_FLOOR), attributes


class VectorPooling(GeneralizedSumPooling):
    """Our layer with the result of a global average pooling: `(B, D)`, or `(B, D, 1, 1)`."""

    def __init__(self, config: GSPConfig, is_map: bool) -> None:
        super().__init__(config)
        self.is_map = is_map

    def forward(self, features: Tensor) -> Tensor:  # type: ignore[override]
        """Pool `features (B, C, H, W)`."""
        embedding = super().forward(features).embedding.to(self.embed.weight.dtype)
        return embedding[:, :, None, None] if self.is_map else embedding


def adopt_layer(
    module: nn.Module, name: str | None = None, *, config: GSPConfig | None = None
) -> tuple[str, ...]:
    """Replace poolings in a model by ours, in place; return the names of the new layers.

    Without a name, the authors' PyTorch layers are replaced: modules with `embed.weight` and
    `prototypes`. Weights, their names, settings and results stay. With a name, that module must be
    a global average pooling. The new layer has new weights, and returns its embedding in the
    pooling's shape, so `config.embedding_dim` must be what the next module takes.

    Args:
        module: the model.
        name: dotted name of a global average pooling, as `named_modules` lists it.
        config: the layer's settings; the authors' layer has its own, and needs none.

    Raises:
        UsageError: there is no such layer, or it is no pooling that can be replaced.

    >>> from torchvision.models import resnet18
    >>> model = resnet18()
    >>> adopt_layer(model, "avgpool", config=GSPConfig(in_channels=512, embedding_dim=512))
    ('avgpool',)
    """
    if name is not None:
        if config is None:
            raise UsageError(f"{name} has no settings of GSP; pass config=GSPConfig(...)")
        _replace(module, {name: _in_place_of_average(_named(module, name), name, config)})
        return (name,)
    found = dict(_authors_layers(module))
    if not found:
        raise UsageError(
            f"{type(module).__name__} has no pooling with `embed.weight` and `prototypes`; name a "
            "global average pooling, as in adopt_layer(model, 'avgpool', config=...)"
        )
    ours = {id(layer): _in_place_of_authors(layer, config) for layer in found.values()}
    _replace(module, {place: ours[id(layer)] for place, layer in found.items()})
    return tuple(found)


def _authors_layers(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    for name, part in module.named_modules(remove_duplicate=False):
        weight = getattr(getattr(part, "embed", None), "weight", None)
        has_both = isinstance(weight, Tensor) and isinstance(
            getattr(part, "prototypes", None), Tensor
        )
        if has_both and not isinstance(part, GeneralizedSumPooling):
            yield name, part


@torch.no_grad()
def _in_place_of_authors(theirs: Any, config: GSPConfig | None) -> GeneralizedSumPooling:
    classifier = getattr(theirs, "classifier", None)
    config = config or _config_of(theirs, normalize=not isinstance(classifier, nn.Module))
    if isinstance(classifier, nn.Module):
        ours: GeneralizedSumPooling = AuthorsPooling(config, classifier)
    else:
        ours = GeneralizedSumPooling(config)
    state = {
        name: value for name, value in theirs.state_dict().items() if name in ours.state_dict()
    }
    if "power" in state:
        state["power"] = state["power"].reshape(())
    try:
        ours.load_state_dict(state)
    except RuntimeError as error:
        raise UsageError(
            f"the layer's weights do not fit its config: {flattened(error)}"
        ) from error
    if not getattr(theirs, "is_proto_inited", True) and isinstance(classifier, nn.Linear):
        chosen = first_prototypes(classifier.weight, len(ours.prototypes))
        ours.prototypes.copy_(chosen)  # theirs does it in the first forward pass
    for name, parameter in ours.named_parameters():
        if name in (given := dict(theirs.named_parameters())):
            parameter.requires_grad_(given[name].requires_grad)
    return ours.to(theirs.prototypes).train(theirs.training)


def _config_of(theirs: Any, normalize: bool) -> GSPConfig:
    given = {ours: getattr(theirs, name, None) for ours, name in _SETTINGS.items()}
    settings = {**REFERENCE_SETTINGS, **{k: v for k, v in given.items() if v is not None}}
    usual = "gmp" if getattr(theirs, "power", None) is None else "gmeanp"
    mode = getattr(theirs, "pooling_method", usual)
    weight, prototypes = theirs.embed.weight, theirs.prototypes
    if weight.ndim != 2 or prototypes.ndim != 2 or len(weight) != prototypes.shape[1]:
        raise UsageError(
            "expected embed.weight (D, C) and prototypes (M, D), "
            f"got {tuple(weight.shape)} and {tuple(prototypes.shape)}"
        )
    return GSPConfig(
        in_channels=weight.shape[1],
        embedding_dim=weight.shape[0],
        num_prototypes=prototypes.shape[0],
        pooling=_MODES.get(mode, "gap"),  # type: ignore[arg-type]  # theirs pools so by default
        bias=theirs.embed.bias is not None,
        normalize=normalize,
        **settings,  # type: ignore[arg-type]
    )


def _in_place_of_average(theirs: nn.Module, name: str, config: GSPConfig) -> VectorPooling:
    features = torch.rand(2, config.in_channels, 3, 4)
    try:
        pooled = theirs(features)
        is_mean = torch.allclose(pooled.flatten(1), features.mean(dim=(2, 3)), atol=1e-5)
    except Exception as error:  # any module may be named, and may raise any type
        raise UsageError(
            f"{name} is a {type(theirs).__name__} that does not pool (batch, "
            f"{config.in_channels}, height, width); name a global average pooling"
        ) from error
    if not is_mean:
        raise UsageError(
            f"{name} is a {type(theirs).__name__}, not a global average pooling; adopt_layer "
            "replaces those"
        )
    return VectorPooling(config, is_map=pooled.ndim == 4).train(theirs.training)


def _named(module: nn.Module, name: str) -> nn.Module:
    try:
        return module.get_submodule(name)
    except AttributeError as error:
        names = [part for part, _ in module.named_children()]
        raise UsageError(
            f"{type(module).__name__} has no module {name!r}; it has {', '.join(names) or 'none'}"
        ) from error


def _replace(module: nn.Module, layers: dict[str, nn.Module]) -> None:
    for name, layer in layers.items():
        parent, _, last = name.rpartition(".")
        if not last:
            raise UsageError(
                "the pooling is the whole model, and cannot be replaced in place; pass the model "
                "that contains it"
            )
        setattr(module.get_submodule(parent), last, layer)

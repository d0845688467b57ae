"""The model that `export` is given: a checkpoint, or the factory of a network of your own."""

from __future__ import annotations

import os
import re
from collections.abc import Collection
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gsp_deploy.base.names import HUB
from gsp_deploy_cli.options.groups import given_options, panel
from gsp_deploy_cli.options.inputs import existing_file
from gsp_deploy_cli.options.reference import ReferenceOptions
from gsp_deploy_cli.tables import show

if TYPE_CHECKING:
    from torch import Tensor, nn

    from gsp_deploy.config import ModelConfig, PreprocessingSpec
    from gsp_deploy.export import Source

network_option = panel("For a network of your own")
USUAL_SIDE = 224
# Options of a state dict that a network of your own takes too.
_OF_WEIGHTS = frozenset({"weights_key", "prefix"})
_OF_IMAGES = frozenset(
    {"image_size", "mean", "std", "resize", "interpolation", "crop_ratio", "pipeline"}
)
_FACTORY = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")


def is_factory(text: str) -> bool:
    """Whether a text names a factory, `module:function`, and not a file.

    >>> is_factory("my_package.models:build"), is_factory("model.safetensors")
    (True, False)
    """
    return _FACTORY.fullmatch(text) is not None and not os.path.exists(text)


def existing_model(given: str | None) -> str | None:
    """Check a file; leave the name of a factory or of weights on the hub as it is."""
    return given if given is None or is_factory(given) else existing_weights(given)


def existing_weights(given: str | None) -> str | None:
    """Check a file; leave a name on the Hugging Face hub as it is."""
    return given if given is None or given.startswith(HUB) else existing_file(given)


@dataclass(frozen=True)
class Subject:
    """What to export.

    Attributes:
        model: the model.
        name: its name for messages.
        source: the weights' file, for the manifest.
        config: of an `EmbeddingModel`; None for another network.
        preprocessing: how its images are prepared; None for a head alone.
        example: images for a network that is no `EmbeddingModel`.
    """

    model: nn.Module
    name: str
    source: Source | None
    config: ModelConfig | None
    preprocessing: PreprocessingSpec | None
    example: Tensor | None = None


@dataclass(frozen=True)
class NetworkOptions:
    """Where the weights of a network of your own are."""

    weights: Annotated[
        str | None,
        network_option(
            help="Its weights: a .safetensors or .pt file, or hf-hub:owner/name of the Hugging "
            "Face hub. (default: as the factory returns it)",
            callback=existing_weights,
        ),
    ] = None

    def load(self, context: typer.Context, text: str, reference: ReferenceOptions) -> Subject:
        """Load the checkpoint, or build the network and load its weights.

        Raises:
            UsageError: an option belongs to the other kind.
        """
        from gsp_deploy.errors import UsageError

        if is_factory(text):
            return self._built(context, text, reference)
        if self.weights is not None:
            raise UsageError(
                f"--weights belongs to a network of your own, as package.module:function; {text} "
                "has its weights"
            )
        from gsp_deploy.export import Source

        file = _file_of(text)
        model = reference.load(file)
        spec = model.config.preprocessing
        return Subject(model, file.name, Source.of(file), model.config, spec)

    def _built(self, context: typer.Context, text: str, reference: ReferenceOptions) -> Subject:
        import torch

        from gsp_deploy.checkpoint import load_weights
        from gsp_deploy.config import PreprocessingSpec
        from gsp_deploy.export import Source
        from gsp_deploy.model import EmbeddingModel
        from gsp_deploy_cli.options.factory import build_network

        own = {field.name for field in fields(ReferenceOptions)}
        _refuse(context, text, own - _OF_WEIGHTS - _OF_IMAGES)
        model, source = build_network(text), None
        if self.weights is not None:
            file = _file_of(self.weights)
            load_weights(model, file, reference.weights_key, reference.prefix, show.remark)
            source = Source.of(file)
        if isinstance(model, EmbeddingModel):
            _refuse(context, text, _OF_IMAGES)
            return Subject(model, text, source, model.config, model.config.preprocessing)
        spec = reference.preprocessing(PreprocessingSpec(USUAL_SIDE, USUAL_SIDE))
        example = torch.rand(2, 3, spec.height, spec.width)
        return Subject(model, text, source, None, spec, example)


def _file_of(text: str) -> Path:
    if not text.startswith(HUB):
        return Path(text)
    from gsp_deploy.checkpoint.hub import hub_file

    return hub_file(text)


def _refuse(context: typer.Context, text: str, settled: Collection[str]) -> None:
    """Refuse options for what the network decides itself."""
    from gsp_deploy.errors import UsageError

    for name, option in given_options(context).items():
        if name in settled:
            raise UsageError(f"{option} is settled in {text}; leave it out")

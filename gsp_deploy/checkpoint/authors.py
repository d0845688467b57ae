"""Read the authors' state dict: a GSP head under any prefix, with or without a backbone."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from gsp_deploy.backbones.last_stride import OPTION as LAST_STRIDE
from gsp_deploy.backbones.last_stride import may_differ
from gsp_deploy.base.progress import Announce
from gsp_deploy.base.words import counted
from gsp_deploy.checkpoint.candidates import fitting, in_short, preferred
from gsp_deploy.config import FEATURES, GSPConfig, ModelConfig, PreprocessingSpec
from gsp_deploy.errors import CheckpointError, ConfigError, flattened
from gsp_deploy.layers.pooling import k_centre
from gsp_deploy.model import EmbeddingModel

# The authors' PyTorch layer fixes these in code, so a state dict does not contain them.
REFERENCE_SETTINGS = {"transport_ratio": 0.3, "entropy_weight": 0.1, "iterations": 100}
# Tensors of the authors' layer that only training uses.
_TRAINING_ONLY = ("classifier.weight", "classifier.bias", "is_proto_inited")


def read_reference_model(
    tensors: Mapping[str, Tensor],
    path: Path,
    settings: Mapping[str, Any],
    backbone: str | None,
    backbone_options: Mapping[str, Any],
    preprocessing: PreprocessingSpec | None,
    prefix: str = "",
    note: Announce = lambda line: None,
) -> EmbeddingModel:
    """Build a model from a state dict with the authors' names.

    If several heads or networks fit, those under `prefix` are taken. Without a prefix, a head and
    a network beside each other are preferred, and averaged weights (EMA) over plain ones. `note`
    is called with one line about each choice, and one about tensors that are not used.

    Raises:
        CheckpointError: there is no GSP head in the file, shapes disagree, or the backbone's
            weights do not fit the named architecture.
        ConfigError: the file has a backbone, and `backbone` is None.
    """
    place = _find_head(tensors, path, prefix, note)
    if not any(name.startswith(prefix) for name in tensors):
        raise CheckpointError(
            f"{path}: no name begins with the prefix {prefix!r}; the file's first names are "
            f"{', '.join(list(tensors)[:4])}"
        )
    head_tensors = _head_at(place, tensors)
    if not tensors.get(f"{place}is_proto_inited", True):
        head_tensors["prototypes"] = _prototypes_from_classes(place, tensors, path)
        note("the prototypes were not initialised yet: set from the classifier, as training would")
    head = _head_config(head_tensors, settings, path)
    skipped = {place + name for name in (*head_tensors, *_TRAINING_ONLY)}
    rest = {name: tensor for name, tensor in tensors.items() if name not in skipped}
    if backbone is None and backbone_options:
        raise ConfigError(
            f"{path}: expected the backbone's timm architecture with its options {backbone_options}"
        )
    if backbone is None and rest:
        raise ConfigError(
            f"{path} contains {len(rest)} tensors beside the GSP head, the first {min(rest)!r}: "
            "name the backbone's timm architecture (--backbone of convert and export)"
        )
    model = EmbeddingModel(_model_config(head, backbone, backbone_options, preprocessing))
    _load_head(model.head, head_tensors, path)
    if backbone is not None:
        used = _load_backbone(model.backbone, rest, backbone, path, prefix, _parent(place))
        if LAST_STRIDE not in backbone_options and may_differ(model.backbone):
            note(
                "a state dict does not contain the stride of the last stage, and 2 was taken; if "
                f"the network was trained with 1, pass --backbone-option {LAST_STRIDE}=1"
            )
        if unused := [name for name in rest if name not in used]:
            note(f"{counted(len(unused), 'tensor')} not used: {in_short(unused)}")
    return model


def with_settings(stored: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return a head's stored settings with yours in their place.

    The authors' number of steps belongs to their iteration, so another solver gets its own.
    """
    settings = {**stored, **given}
    if given.get("solver") not in (None, "fixed-point") and "iterations" not in given:
        settings["iterations"] = None
    return settings


def first_prototypes(classes: Tensor, count: int) -> Tensor:
    """Return the prototypes `(count, D)` that the authors' layer sets before its first step.

    They are some rows of the classifier's weights `(K, D)`. If there are fewer classes than
    prototypes, theirs repeats the second class: its distances are all 0 then.
    """
    chosen = k_centre(classes, min(count, len(classes)))
    chosen += [min(1, len(classes) - 1)] * (count - len(chosen))
    return classes[chosen]


def _find_head(tensors: Mapping[str, Tensor], path: Path, wanted: str, note: Announce) -> str:
    """Return the prefix that both `prototypes` and `embed.weight` have."""
    prefixes = [
        name.removesuffix("prototypes")
        for name in tensors
        if name == "prototypes" or name.endswith(".prototypes")
    ]
    heads = [prefix for prefix in prefixes if f"{prefix}embed.weight" in tensors]
    kept = [prefix for prefix in heads if prefix.startswith(wanted)] if len(heads) > 1 else heads
    chosen = preferred({prefix: _head_at(prefix, tensors) for prefix in kept})
    if chosen is not None:
        if others := [prefix for prefix in kept if prefix != chosen]:
            note(
                f"took the head under {chosen!r}; there are also {in_short(others)}, choose one "
                "of them with --prefix"
            )
        return chosen
    if heads:
        under = f", {len(kept)} of them under {wanted!r}" if wanted else ""
        raise CheckpointError(
            f"{path}: expected one GSP head (`prototypes` beside `embed.weight`), "
            f"found {len(heads)} ({in_short(sorted(heads))}){under}; choose one with --prefix"
        )
    raise CheckpointError(
        f"{path}: expected one GSP head (`prototypes` beside `embed.weight`), found none; "
        f"the file's first names are {', '.join(list(tensors)[:4])}"
    )


def _prototypes_from_classes(prefix: str, tensors: Mapping[str, Tensor], path: Path) -> Tensor:
    wanted = tensors[f"{prefix}prototypes"]
    classes = tensors.get(f"{prefix}classifier.weight")
    if classes is None or classes.ndim != 2 or classes.shape[1:] != wanted.shape[1:]:
        raise CheckpointError(
            f"{path}: {prefix}is_proto_inited is false, so the prototypes are random, and there "
            f"is no {prefix}classifier.weight of {wanted.shape[-1]} columns to set them from; save "
            "the state dict after the first step"
        )
    return first_prototypes(classes, len(wanted)).to(wanted)


def _head_at(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    names = ("embed.weight", "embed.bias", "prototypes", "power")
    return {name: tensors[prefix + name] for name in names if prefix + name in tensors}


def _parent(prefix: str) -> str:
    """Return the parent prefix: `encoder.` for `encoder.head.`, and nothing for `head.`."""
    return "".join(re.findall(r"[^.]*\.", prefix)[:-1])


def _head_config(
    tensors: Mapping[str, Tensor], settings: Mapping[str, Any], path: Path
) -> GSPConfig:
    weight, prototypes = tensors["embed.weight"], tensors["prototypes"]
    if weight.ndim != 2 or prototypes.ndim != 2 or weight.shape[0] != prototypes.shape[1]:
        raise CheckpointError(
            f"{path}: expected embed.weight (D, C) and prototypes (M, D), "
            f"got {tuple(weight.shape)} and {tuple(prototypes.shape)}"
        )
    stored = {**REFERENCE_SETTINGS, "pooling": "gem" if "power" in tensors else "gmp"}
    return GSPConfig(
        in_channels=weight.shape[1],
        embedding_dim=weight.shape[0],
        num_prototypes=prototypes.shape[0],
        bias="embed.bias" in tensors,
        **with_settings(stored, settings),
    )


def _model_config(
    head: GSPConfig,
    backbone: str | None,
    backbone_options: Mapping[str, Any],
    preprocessing: PreprocessingSpec | None,
) -> ModelConfig:
    if backbone is None:
        return ModelConfig(FEATURES, head, None)
    return ModelConfig(
        backbone, head, preprocessing or PreprocessingSpec(224, 224), dict(backbone_options)
    )


def _load_head(head: nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
    shaped = dict(tensors)
    if head.power is None:
        shaped.pop("power", None)  # the caller chose another pooling than in training
    try:
        if "power" in shaped:
            shaped["power"] = shaped["power"].reshape(())
        head.load_state_dict(shaped)
    except RuntimeError as error:
        raise CheckpointError(f"{path}: GSP head: {flattened(error)}") from error


def _load_backbone(
    backbone: nn.Module,
    tensors: Mapping[str, Tensor],
    name: str,
    path: Path,
    asked: str,
    heads_parent: str,
) -> set[str]:
    """Load the backbone's tensors from any prefix; return their names.

    If several prefixes have all of them, a prefix under `asked` goes first, then one beside the
    head.
    """
    wanted = backbone.state_dict()
    sets = fitting(tensors, wanted)
    if not sets:
        first = next(iter(wanted), None)
        raise CheckpointError(
            f"{path}: expected the {len(wanted)} tensors of {name} (the first is {first!r}), "
            f"found {len(tensors)} that do not fit; is it another architecture?"
        )
    sets = {prefix: found for prefix, found in sets.items() if prefix.startswith(asked)} or sets
    sets = {prefix: s for prefix, s in sets.items() if _parent(prefix) == heads_parent} or sets
    chosen = preferred(sets)
    if chosen is None:
        raise CheckpointError(
            f"{path}: expected the weights of one {name}, found {len(sets)} "
            f"({in_short([repr(prefix) for prefix in sorted(sets)])}); choose one with --prefix"
        )
    try:
        backbone.load_state_dict(sets[chosen])
    except RuntimeError as error:
        raise CheckpointError(f"{path}: backbone {name}: {flattened(error)}") from error
    return {chosen + key for key in wanted}

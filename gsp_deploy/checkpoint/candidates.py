"""Choose one of several sets of weights in a file: plain and averaged, student and teacher.

The rule is that of timm's loader: averaged weights (EMA) go before plain ones. If more than one
set remains, the error names them all, and the user chooses with an option.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gsp_deploy.errors import CheckpointError

# How deep a training script nests a state dict, with room to spare: {"model": {"state_dict": ...}}.
_DEEPEST = 4
# Keys of the optimiser and other training state: their tensors are not the model's weights, except
# averaged ones, which Lightning keeps below `callbacks`.
_OF_TRAINING = re.compile(r"(optim|sched|scaler|rng|callback|hyper_param|loops)", re.IGNORECASE)
_AVERAGED = re.compile(r"(^|[._])ema([._]|$)", re.IGNORECASE)
_USUAL = ("state_dict", "model_state_dict", "model")
_MOST_NAMED = 8


@dataclass(frozen=True)
class ChosenWeights:
    """The chosen weights, and lines about the choice for the user."""

    tensors: Mapping[str, Tensor]
    notes: tuple[str, ...] = ()


def choose_weights(data: Mapping[Any, Any], weights_key: str | None, path: object) -> ChosenWeights:
    """Return one set of weights from what a training script saved.

    Args:
        data: the file's contents; a set of weights is a mapping with tensors as values.
        weights_key: the key of the set to take, with dots if it is nested; None applies the rule.
        path: the file, for messages.

    Raises:
        CheckpointError: there is no set, none under the key, or the rule leaves several.
    """
    found = dict(_sets("", data, 0))
    if weights_key is not None:
        if weights_key not in found:
            raise CheckpointError(
                f"{path}: expected weights under the key {weights_key!r}, and "
                f"{_what_is_there(found, data)}"
            )
        return ChosenWeights(found[weights_key])
    heads = {key: tensors for key, tensors in found.items() if _has_head(tensors)}
    key = preferred(heads or found)
    if key is None:
        raise CheckpointError(
            f"{path}: expected one set of weights, and {_what_is_there(found, data)}"
            f"{'; choose one with --weights-key' if found else ''}"
        )
    return ChosenWeights(found[key], (*_choice(key, list(found)), *_nameless(data)))


def _choice(key: str, found: Sequence[str]) -> Iterator[str]:
    """Yield the line that says which set was taken, unless there is only one under a usual key."""
    others = [name for name in found if name != key]
    if others:
        yield (
            f"took the weights under {_named(key)}; there are also those under "
            f"{in_short([_named(name) for name in others])}, choose one with --weights-key"
        )
    elif key not in ("", *_USUAL):
        yield f"took the weights under {_named(key)}"


def _nameless(data: Mapping[Any, Any]) -> Iterator[str]:
    """Yield a line for each list of averaged weights: torch_ema saves them without names."""
    for name in _lists("", data, 0):
        if _AVERAGED.search(name):
            yield f"the averaged weights under {name} have no names, so they were not taken"


def preferred(candidates: Mapping[str, Mapping[str, Tensor]]) -> str | None:
    """Return the only candidate, or the only averaged one, or the first of several equal ones.

    Return None if there is no candidate or if they differ.
    """
    averaged = [name for name in candidates if _AVERAGED.search(name)]
    names = sorted(averaged or candidates, key=lambda name: (len(name), name))
    if not names:
        return None
    first = candidates[names[0]]
    return names[0] if all(_are_equal(first, candidates[name]) for name in names[1:]) else None


def fitting(
    tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor]
) -> dict[str, dict[str, Tensor]]:
    """Return each prefix in the file under which all the wanted names are, with their tensors.

    A weight that the network uses under several names may be in the file under any of them:
    safetensors' `save_model` stores one.

    >>> one = torch.ones(1)
    >>> sorted(fitting({"a.w": one, "b.w": one, "b.v": one}, {"w": one}))
    ['a.', 'b.']
    """
    places = _places(wanted)
    firsts = next(iter(places.values()), ())
    ends = [(n, first) for n in tensors for first in firsts if f".{n}".endswith(f".{first}")]
    sets = {}
    for prefix in dict.fromkeys(name.removesuffix(first) for name, first in ends):
        found = {
            name: next((prefix + place for place in names if prefix + place in tensors), None)
            for name, names in places.items()
        }
        if None not in found.values():
            sets[prefix] = {name: tensors[place] for name, place in found.items() if place}
    return sets


def _places(wanted: Mapping[str, Tensor]) -> dict[str, list[str]]:
    """Return each name with all names of its weight, itself first."""
    names: dict[object, list[str]] = defaultdict(list)
    keys = {
        name: (tensor.data_ptr(), tensor.shape, tensor.stride()) if tensor.numel() else name
        for name, tensor in wanted.items()
    }
    for name, key in keys.items():
        names[key].append(name)
    return {name: [name, *(n for n in names[key] if n != name)] for name, key in keys.items()}


def _sets(key: str, data: Mapping[Any, Any], depth: int) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Yield each mapping with tensors and its dotted key, in the file's order."""
    tensors = {str(name): value for name, value in data.items() if isinstance(value, Tensor)}
    # A lone counter beside nested sets is not a set itself: {"step": tensor(3), "model": {...}}.
    is_training = _OF_TRAINING.search(key) is not None and _AVERAGED.search(key) is None
    if not is_training and any(tensor.ndim for tensor in tensors.values()):
        yield key, tensors
    for name, value in _nested(key, data, depth):
        yield from _sets(name, value, depth + 1)


def _lists(key: str, data: Mapping[Any, Any], depth: int) -> Iterator[str]:
    """Yield the dotted key of each list of tensors."""
    for name, value in data.items():
        if isinstance(value, list) and value and all(isinstance(item, Tensor) for item in value):
            yield f"{key}.{name}" if key else str(name)
    for name, value in _nested(key, data, depth):
        yield from _lists(name, value, depth + 1)


def _nested(
    key: str, data: Mapping[Any, Any], depth: int
) -> Iterator[tuple[str, Mapping[Any, Any]]]:
    """Yield the mappings in a mapping, each with its dotted key."""
    for name, value in data.items():
        if isinstance(value, Mapping) and depth < _DEEPEST:
            yield f"{key}.{name}" if key else str(name), value


def _has_head(tensors: Mapping[str, Tensor]) -> bool:
    return any(name == "prototypes" or name.endswith(".prototypes") for name in tensors)


def _are_equal(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(
        torch.equal(tensor, second[name]) for name, tensor in first.items()
    )


def _what_is_there(found: Mapping[str, object], data: Mapping[Any, Any]) -> str:
    if found:
        return f"there are weights under {in_short([_named(key) for key in found])}"
    keys = [str(key) for key in data]
    return f"there are none: the file's keys are {in_short(keys)}" if keys else "the file is empty"


def _named(key: str) -> str:
    return key or "no key (the top level)"


def in_short(names: Sequence[str]) -> str:
    """Return the first few names of a list, and how many more there are.

    >>> in_short(["a", "b"])
    'a, b'
    """
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(names[:_MOST_NAMED]) + more

"""Load the weights of a network of your own from a file, without trusting it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from gsp_deploy.base.progress import Announce
from gsp_deploy.base.words import counted
from gsp_deploy.checkpoint.candidates import fitting, in_short, preferred
from gsp_deploy.checkpoint.reading import read_checkpoint
from gsp_deploy.errors import CheckpointError, flattened


def load_weights(
    network: nn.Module,
    path: str | os.PathLike[str],
    weights_key: str | None = None,
    prefix: str = "",
    announce: Announce = lambda line: None,
) -> None:
    """Load all tensors of a network from a state dict, under any one prefix, as `module.`.

    Args:
        network: receives the weights, in place.
        path: `.safetensors`, `.pt` or `.pth`.
        weights_key: as in `read_checkpoint`.
        prefix: start of the names to take if several prefixes fit; without it averaged weights
            (EMA) go before plain ones, and if none goes first the error names them all.
        announce: called with one line about each choice, and one about unused tensors.

    Raises:
        CheckpointError: the file is missing, damaged or hostile, does not have all the tensors, or
            has several sets that differ.
    """
    contents, wanted = read_checkpoint(path, weights_key), network.state_dict()
    for note in contents.notes:
        announce(note)
    sets = fitting(contents.tensors, wanted)
    if not sets:
        raise _missing(network, contents.tensors, Path(path), prefix)
    kept = {place: found for place, found in sets.items() if place.startswith(prefix)}
    chosen = preferred(kept)
    if chosen is None:
        under = f", {len(kept)} of them under {prefix!r}" if prefix else ""
        raise CheckpointError(
            f"{path}: expected the weights of one {type(network).__name__}, found {len(sets)} "
            f"({in_short([repr(place) for place in sorted(sets)])}){under}; choose one with "
            "--prefix"
        )
    if others := sorted(place for place in kept if place != chosen):
        announce(f"took the weights under {chosen!r}; there are also {in_short(others)}")
    try:
        network.load_state_dict(_shaped(kept[chosen], wanted))
    except RuntimeError as error:
        raise CheckpointError(f"{path}: {flattened(error)}") from error
    used = {chosen + name for name in wanted}
    if unused := [name for name in contents.tensors if name not in used]:
        announce(f"{counted(len(unused), 'tensor')} not used: {in_short(unused)}")


def _shaped(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give single numbers the shape that the network has for them, as the authors' `power`."""
    return {
        name: value.reshape(wanted[name].shape)
        if value.numel() == wanted[name].numel() == 1
        else value
        for name, value in found.items()
    }


def _missing(
    network: nn.Module, tensors: Mapping[str, Tensor], path: Path, prefix: str
) -> CheckpointError:
    wanted = list(network.state_dict())
    absent = [name for name in wanted if f"{prefix}{name}" not in tensors]
    return CheckpointError(
        f"{path}: expected the {len(wanted)} tensors of {type(network).__name__} under one prefix, "
        f"found {len(tensors)} that do not fit; it has no {in_short(absent)}, and begins with "
        f"{in_short(list(tensors)[:4])}"
    )

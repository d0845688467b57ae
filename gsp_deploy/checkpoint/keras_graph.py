"""The graph of a network in the JSON of a Keras file: its layers, and which feeds which."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

NETWORKS = ("Functional", "Model")


@dataclass(frozen=True)
class Layer:
    """One layer: its class, its settings, and the names of the layers that feed it."""

    name: str
    kind: str
    settings: Mapping[str, Any]
    sources: tuple[str, ...]

    def side(self, setting: str, usual: int = 1) -> int | None:
        """Return a size such as `kernel_size`; None if height and width differ."""
        value = self.settings.get(setting) or usual
        if isinstance(value, int):
            return value
        height, width = value
        return int(height) if height == width else None

    @property
    def padded(self) -> tuple[int, ...]:
        """Rows and columns that a ZeroPadding2D adds: top, bottom, left, right."""
        value = self.settings.get("padding", 1)
        if isinstance(value, int):
            return (value,) * 4
        pairs = [(part, part) if isinstance(part, int) else tuple(part) for part in value]
        return tuple(number for pair in pairs for number in pair)

    def __str__(self) -> str:
        return f"{self.name} ({self.kind})"


@dataclass(frozen=True)
class Network:
    """A network with one output."""

    name: str
    layers: Mapping[str, Layer]
    output: str


def networks_of(model: Mapping[str, Any]) -> list[Network]:
    """Return the networks that are layers of a model.

    Raises:
        KeyError, TypeError, ValueError: the JSON is not that of a Keras model.
    """
    return [
        _network(listed["config"])
        for listed in model["config"]["layers"]
        if listed["class_name"].rpartition(">")[2] in NETWORKS
    ]


def _network(config: Mapping[str, Any]) -> Network:
    names = {listed["config"]["name"] for listed in config["layers"]}
    layers = {}
    for listed in config["layers"]:
        name = listed["config"]["name"]
        sources = tuple(_names(listed.get("inbound_nodes", []), names))
        kind = listed["class_name"].rpartition(">")[2]
        layers[name] = Layer(name, kind, listed["config"], sources)
    (output,) = _names(config["output_layers"], names)
    return Network(config["name"], layers, output)


def _names(value: Any, known: set[str]) -> Iterator[str]:
    """Yield the layers' names in what Keras writes of a tensor: `[name, 0, 0]` amid other things.

    >>> list(_names([[["a", 0, 0, {}], ["b", 0, 0, {}]]], {"a", "b"}))
    ['a', 'b']
    """
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list):
        if isinstance(value[0] if value else None, str) and value[1:3] == [0, 0]:
            yield from known & {value[0]}
            return
        for part in value:
            yield from _names(part, known)

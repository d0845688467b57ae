"""The reader of nested documents builds valid data and refuses the rest in one line."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, Literal

import pytest

from gsp_deploy.base.schema import from_data, from_fields
from gsp_deploy.errors import ConfigError


@dataclass(frozen=True)
class Circle:
    KIND: ClassVar[str] = "circle"

    radius: float

    def __post_init__(self) -> None:
        if not isinstance(self.radius, (int, float)):
            raise ConfigError("radius must be a length")


@dataclass(frozen=True)
class Square:
    KIND: ClassVar[str] = "square"

    side: float


@dataclass(frozen=True)
class Point:
    place: tuple[float, float]
    name: str | None = None


@dataclass(frozen=True)
class Drawing:
    shape: Circle | Square
    colour: Literal["red", "blue"] = "red"
    points: tuple[Point, ...] = ()
    named: Mapping[str, Point] = field(default_factory=dict)
    by_rank: Mapping[int, float] = field(default_factory=dict)
    corner: Point | None = None
    filled: bool = False
    free: Any = None


FULL = Drawing(
    shape=Square(2.0),
    colour="blue",
    points=(Point((0.0, 1.0), "a"), Point((2.0, 3.0))),
    named={"b": Point((4.0, 5.0))},
    by_rank={1: 0.5, 10: 0.75},
    corner=Point((6.0, 7.0)),
    free={"anything": [1, None, "x"]},
)


def plain(**changes: Any) -> dict[str, Any]:
    data = json.loads(json.dumps(asdict(FULL)))
    data["shape"]["kind"] = "square"
    return {**data, **changes}


def test_what_json_holds_is_read_back_whole() -> None:
    assert from_fields(Drawing, plain()) == FULL
    assert from_fields(Drawing, {"shape": {"kind": "circle", "radius": 1}}) == Drawing(Circle(1))


def test_values_that_are_dataclasses_already_are_taken_as_they_are() -> None:
    assert from_fields(Drawing, {"shape": Circle(1.0), "corner": FULL.corner}).corner is FULL.corner


def deep(levels: int) -> list[Any]:
    nested: list[Any] = []
    for _ in range(levels):
        nested = [nested]
    return nested


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"colours": 1}, "Drawing has no setting 'colours'; it knows shape, colour"),
        ({"shape": {"kind": "square"}}, "Square needs 'side', which is missing"),
        ({"shape": {"side": 1}}, "shape kind must be one of circle, square, got None"),
        ({"shape": {"kind": [], "side": 1}}, "shape kind must be one of circle, square"),
        ({"shape": 3}, "shape must be a table of Circle or Square's settings, got 3"),
        ({"colour": "green"}, "Drawing.colour must be Literal['red', 'blue'], got 'green'"),
        ({"points": {"place": [0, 1]}}, "Drawing.points must be tuple[Point, ...]"),
        ({"points": [3]}, "points must be a table of Point's settings, got 3 (int)"),
        ({"points": [{"place": [0, 1, 2]}]}, "Point.place must be tuple[float, float]"),
        ({"points": [{"place": [0, "1"]}]}, "Point.place must be tuple[float, float]"),
        ({"named": {"b": {"place": [0, 1], "x": 1}}}, "Point has no setting 'x'"),
        ({"by_rank": {"one": 1.0}}, "Drawing.by_rank must be Mapping[int, float]"),
        ({"filled": 1}, "Drawing.filled must be bool, got 1 (int)"),
        ({"shape": {"kind": "square", "side": True}}, "Square.side must be float, got True"),
        ({"shape": {"kind": "square", "side": math.nan}}, "Square.side must be float, got nan"),
        ({"shape": {"kind": "square", "side": math.inf}}, "Square.side must be float, got inf"),
        ({"shape": {"kind": "square", "side": 10**400}}, "Square.side must be float, got 1000"),
        ({"shape": {"kind": "circle", "radius": "1"}}, "radius must be a length"),
        ({"free": deep(40)}, "Drawing.free must be Any, got [[["),
    ],
)
def test_what_does_not_fit_is_named_in_one_line(change: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError) as caught:
        from_fields(Drawing, plain(**change))
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


def test_one_value_is_read_by_its_type() -> None:
    assert from_data(tuple[str, ...], ["a", "b"], "files") == ("a", "b")
    with pytest.raises(ConfigError, match=r"files must be tuple\[str, ...\], got \['a', 1\]"):
        from_data(tuple[str, ...], ["a", 1], "files")

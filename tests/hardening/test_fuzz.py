"""Parsers of text from elsewhere read it, or raise a GspDeployError in one printable line."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gsp_deploy.artifact import ExportManifest
from gsp_deploy.artifact.bundle_manifest import BundleManifest
from gsp_deploy.artifact.engine_manifest import EngineManifest
from gsp_deploy.checkpoint import parse_header, read_checkpoint
from gsp_deploy.errors import GspDeployError
from gsp_deploy.training.recipe import parse_recipe
from gsp_deploy.training.recipe_files import load_recipe, tables_of

from .workshop import RECIPE

EXAMPLES = settings(
    max_examples=150,
    deadline=None,
    derandomize=True,  # the same in every run: a failure is there for everybody
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
PARSERS: dict[str, Callable[[str], object]] = {
    "export": lambda text: ExportManifest.from_json(text, "m.json"),
    "engine": lambda text: EngineManifest.from_json(text, "m.json"),
    "bundle": lambda text: BundleManifest.from_json(text, "m.json"),
    "checkpoint": lambda text: parse_header(text, "m.safetensors"),
    "recipe": lambda text: parse_recipe(json.loads(text), "recipe"),
}

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["../../etc/passwd", "a\nb", "\x1b[2J", 10**400, -1, 0, 1e308])
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner),
    max_leaves=6,
)


@pytest.fixture(scope="module")
def sound(
    workshop: Path, make_engine, tried, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """Return valid data for each parser."""
    count = EXAMPLES.max_examples
    for kind in PARSERS:
        tried("Fuzzed parsers", f"{kind}: {count} changed fields", "read, or a GspDeployError")
    engine = make_engine(workshop / "model.onnx", tmp_path_factory.mktemp("engine") / "m.engine")
    metadata = read_checkpoint(workshop / "model.safetensors").metadata
    assert metadata is not None
    return {
        "export": json.loads((workshop / "model.onnx.json").read_text()),
        "engine": json.loads(Path(f"{engine}.json").read_text()),
        "bundle": json.loads((workshop / "bundle" / "bundle.json").read_text()),
        "checkpoint": {"format": 1, "model": metadata.model.to_dict(), "provenance": {}},
        "recipe": tables_of(RECIPE, "recipe"),
    }


def places(data: Any, above: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the path to every value in nested data."""
    inner = data.items() if isinstance(data, dict) else enumerate(data)
    found = []
    for key, value in inner:
        found.append((*above, key))
        if isinstance(value, (dict, list)):
            found += places(value, (*above, key))
    return found


def changed(data: Any, way: tuple[Any, ...], how: str, value: Any) -> Any:
    """Return a copy with one value replaced, removed, or added."""
    data = copy.deepcopy(data)
    inside = data
    for step in way[:-1]:
        inside = inside[step]
    if how == "replace":
        inside[way[-1]] = value
    elif how == "remove":
        del inside[way[-1]]
    elif isinstance(inside, dict):
        inside["another"] = value
    else:
        inside.append(value)
    return data


def check(parse: Callable[[], object]) -> None:
    """Only a GspDeployError is raised, in one line."""
    try:
        parse()
    except GspDeployError as error:
        line = str(error)
        assert line
        assert "\n" not in line


@pytest.mark.parametrize("kind", PARSERS)
@EXAMPLES
@given(data=st.data())
def test_a_changed_field(kind: str, sound: dict[str, Any], data: st.DataObject) -> None:
    way = data.draw(st.sampled_from(places(sound[kind])))
    how = data.draw(st.sampled_from(["replace", "remove", "add"]))
    text = json.dumps(changed(sound[kind], way, how, data.draw(values)))
    check(lambda: PARSERS[kind](text))


@pytest.mark.parametrize("kind", [kind for kind in PARSERS if kind != "recipe"])
@EXAMPLES
@given(text=st.text(max_size=200) | values.map(json.dumps))
def test_any_text(kind: str, text: str) -> None:
    check(lambda: PARSERS[kind](text))


@EXAMPLES
@given(
    content=st.binary(max_size=200)
    | st.text(alphabet="[]{}=\"'.,a1\n #\\e", max_size=60).map(str.encode),
    override=st.text(max_size=20) | st.sampled_from(["a.b=[", "run.steps=1", "=", "a.=1", ".=."]),
)
def test_any_recipe_file(content: bytes, override: str, tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_bytes(content)
    check(lambda: load_recipe(path, [override]))


@EXAMPLES
@given(data=st.data())
def test_a_recipe_file_with_a_changed_line(data: st.DataObject, tmp_path: Path) -> None:
    lines = RECIPE.splitlines()
    index = data.draw(st.integers(0, len(lines) - 1))
    lines[index] = data.draw(
        st.text(max_size=20)
        | st.sampled_from(['extends = "a\\u0000"', "[on.cub.gsp]", "on = 1", "[a.b.c]", "a = nan"])
    )
    path = tmp_path / "recipe.toml"
    path.write_text("\n".join(lines), encoding="utf-8", errors="replace")
    check(lambda: load_recipe(path))

"""The Dockerfiles, which nothing here can build: what they copy is here, what they set exists."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "plugins" / "docker"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
CMAKE = "\n".join(
    file.read_text(encoding="utf-8") for file in (ROOT / "plugins").rglob("CMakeLists.txt")
)


@pytest.fixture(params=["cuda", "jetson"])
def stages(request: pytest.FixtureRequest) -> dict[str, str]:
    """The text of each stage; the last one has no name."""
    text = (FOLDER / f"{request.param}.Dockerfile").read_text(encoding="utf-8")
    parts = re.split(r"^FROM \$\{BASE\}(?: AS (\w+))?\n", text, flags=re.MULTILINE)[1:]
    return {name or "": body for name, body in zip(parts[::2], parts[1::2], strict=True)}


def copied(stage: str) -> set[str]:
    """Return the files and folders that a stage copies from the repository."""
    lines = re.findall(r"^COPY (?!--from)(.+) \S+$", stage, re.MULTILINE)
    return {name for line in lines for name in line.split()}


def test_what_is_copied_is_here(stages: dict[str, str]) -> None:
    assert list(stages) == ["native", "wheel", ""]
    for stage in stages.values():
        assert all((ROOT / name).exists() for name in copied(stage))


def test_the_wheel_is_built_from_all_that_it_is_made_of(stages: dict[str, str]) -> None:
    folders = {"gsp_deploy", "cli", "models"}  # as setup.py finds them
    licences = {name for name in PROJECT["project"]["license-files"] if "/" not in name}
    files = {"pyproject.toml", "setup.py", PROJECT["project"]["readme"], *licences}
    assert copied(stages["wheel"]) == folders | files


def test_options_and_programs_are_those_of_the_build(stages: dict[str, str]) -> None:
    options = set(re.findall(r"-D(GSP_\w+)=", stages["native"]))
    assert {"GSP_TENSORRT", "GSP_RUNTIME"} <= options
    for option in options:
        assert re.search(rf"(?:option|set)\({option} ", CMAKE), option
    (programs,) = re.findall(r"^ && install .*bin (/.*)$", stages["native"], re.MULTILINE)
    (built,) = re.findall(r"foreach\(example (.*)\)", CMAKE)
    assert programs.split() == [f"/build/runtime/{name}" for name in built.split()]


def test_the_extras_exist(stages: dict[str, str]) -> None:
    (extras,) = re.findall(r"\)\[([\w,]+)\]", stages[""])
    assert set(extras.split(",")) <= set(PROJECT["project"]["optional-dependencies"])

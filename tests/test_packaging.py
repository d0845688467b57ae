"""What goes into the wheel: every package, and every file beside the code that it needs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from configparser import ConfigParser
from fnmatch import fnmatch
from pathlib import Path

import pytest

from gsp_deploy.checkpoint import read_checkpoint

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
SETUPTOOLS = PYPROJECT["tool"]["setuptools"]
FOLDERS = {"gsp_deploy_cli": "cli", "gsp_deploy_models": "models"}
NOT_SOURCE = shutil.ignore_patterns(".*", "__pycache__", "build", "dist", "runs", "*.egg-info")
# Runs the command, and tells first where it was found.
COMMAND = "import gsp_deploy_cli.main as m, sys; print(m.__file__, file=sys.stderr); m.main()"
# Prints the file's name last, as build backends do by contract (PEP 517).
BUILD = "import sys; from setuptools import build_meta as b; print(getattr(b, sys.argv[1])('out'))"


@pytest.mark.parametrize("package", ["gsp_deploy", *FOLDERS])
def test_every_file_beside_the_code_is_listed(package: str) -> None:
    folder = ROOT / FOLDERS.get(package, package)
    patterns = SETUPTOOLS["package-data"].get(package, [])
    beside = [
        str(file.relative_to(folder))
        for file in folder.rglob("*")
        if file.is_file()
        and "__pycache__" not in file.parts
        and file.suffix not in (".py", ".pyc", ".md")
    ]
    missing = [name for name in beside if not any(fnmatch(name, p) for p in patterns)]
    assert not missing


def build(hook: str, tree: Path) -> Path:
    """Call a hook of the build backend in `tree` and return the file that it made."""
    command = [sys.executable, "-c", BUILD, hook]
    ran = subprocess.run(command, cwd=tree, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert "absent from the `packages` configuration" not in ran.stderr
    return tree / "out" / ran.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of this repository, which a build may litter and nobody edits meanwhile."""
    copy = tmp_path_factory.mktemp("source") / "repository"
    return Path(shutil.copytree(ROOT, copy, ignore=NOT_SOURCE))


@pytest.fixture(scope="module")
def unpacked(tree: Path) -> Path:
    """The source distribution, unpacked."""
    sdist = build("build_sdist", tree)
    with tarfile.open(sdist) as archive:
        archive.extractall(tree.parent, filter="data")
    return tree.parent / sdist.name.removesuffix(".tar.gz")


@pytest.fixture(scope="module")
def wheel(unpacked: Path) -> dict[str, bytes]:
    """The wheel that the source distribution builds: names and contents."""
    with zipfile.ZipFile(build("build_wheel", unpacked)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_the_source_distribution_is_the_repository(tree: Path, unpacked: Path) -> None:
    for name in ("tests/conftest.py", "tests/golden/README.md", "plugins/CMakeLists.txt"):
        assert (unpacked / name).read_bytes() == (tree / name).read_bytes()
    for name in ("docs/index.md", "benchmarks/README.md", "models/README.md", "constraints.txt"):
        assert (unpacked / name).read_bytes() == (tree / name).read_bytes()


def test_the_wheel_holds_the_listed_packages_and_nothing_else(
    tree: Path, wheel: dict[str, bytes]
) -> None:
    expected = {}
    for package in ("gsp_deploy", *FOLDERS):
        folder = tree / FOLDERS.get(package, package)
        files = [*folder.rglob("*.py")]
        for pattern in SETUPTOOLS["package-data"].get(package, []):
            files += folder.glob(pattern)
        expected |= {f"{package}/{f.relative_to(folder).as_posix()}": f for f in files}
    installed = {name: data for name, data in wheel.items() if ".dist-info/" not in name}
    assert sorted(installed) == sorted(expected)
    assert all(data == expected[name].read_bytes() for name, data in installed.items())
    for name in ("gsp_deploy/py.typed", "gsp_deploy_models/glyphs.safetensors"):
        assert name in installed


def test_the_wheel_says_how_to_run_it_and_what_it_needs(wheel: dict[str, bytes]) -> None:
    about = {
        Path(name).relative_to(Path(name).parts[0]).as_posix(): data.decode()
        for name, data in wheel.items()
        if ".dist-info/" in name
    }
    entries = ConfigParser()
    entries.read_string(about["entry_points.txt"])
    assert dict(entries["console_scripts"]) == {"gsp-deploy": "gsp_deploy_cli.main:main"}
    extras = PYPROJECT["project"]["optional-dependencies"]
    for extra in extras:
        assert f"Provides-Extra: {extra}\n" in about["METADATA"]
    assert "License-Expression: MIT AND Apache-2.0\n" in about["METADATA"]
    assert "licenses/LICENSE" in about


def test_every_shipped_checkpoint_has_a_card_and_its_licence(wheel: dict[str, bytes]) -> None:
    shipped = [Path(name).stem for name in wheel if name.endswith(".safetensors")]
    assert shipped
    for name in shipped:
        metadata = read_checkpoint(ROOT / "models" / f"{name}.safetensors").metadata
        assert metadata is not None
        card = wheel[f"gsp_deploy_models/{name}.md"].decode()
        text = wheel[f"gsp_deploy_models/licenses/{name}.txt"].decode()
        assert f"| licence | {metadata.provenance.license}" in card
        title = {"MIT": "MIT License", "Apache-2.0": "Apache License"}
        assert title[str(metadata.provenance.license)] in text


def test_the_demo_runs_from_the_wheel_alone(wheel: dict[str, bytes], tmp_path: Path) -> None:
    """The checkpoint that it deploys came along, and nothing of the repository is needed."""
    site, output = tmp_path / "site", tmp_path / "demo"
    for name, data in wheel.items():
        file = site / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    demo = ("demo", "--output", str(output), "--classes", "4", "--images-per-class", "2")
    ran = subprocess.run(
        [sys.executable, "-c", COMMAND, *demo],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stderr.startswith(str(site / "gsp_deploy_cli"))
    assert (output / "report.html").is_file()

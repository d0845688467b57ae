"""What goes into the wheel: every package, and every file beside the code that it needs."""

from __future__ import annotations

import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
SETUPTOOLS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"][
    "setuptools"
]
FOLDERS = {"gsp_deploy_cli": "cli", "gsp_deploy_models": "models"}


def test_every_package_is_listed() -> None:
    found = {
        ".".join(file.parent.relative_to(ROOT).parts)
        for file in (ROOT / "gsp_deploy").rglob("__init__.py")
    }
    listed = SETUPTOOLS["packages"]
    assert sorted(listed) == sorted(found | set(FOLDERS))
    assert SETUPTOOLS["package-dir"] == FOLDERS


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

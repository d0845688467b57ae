"""Find the packages: `gsp_deploy`, and two whose folders have shorter names than they."""

from __future__ import annotations

from setuptools import find_packages, setup

FOLDERS = {"gsp_deploy_cli": "cli", "gsp_deploy_models": "models"}

packages = find_packages(include=["gsp_deploy", "gsp_deploy.*"])
for package, folder in FOLDERS.items():
    packages += [package, *(f"{package}.{inner}" for inner in find_packages(folder))]

setup(packages=packages, package_dir=FOLDERS)

"""A bundle that leads out of itself, by links or by names, is refused before anything is opened."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from gsp_deploy.bundle import open_bundle, verify_bundle
from gsp_deploy.bundle.files import SUMS_NAME, refuse_to_replace, sha256_of, write_sums
from gsp_deploy.errors import GateError, GspDeployError, ModelFileError


@pytest.fixture(autouse=True)
def nothing_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    """No session is opened, and no golden array is read."""
    monkeypatch.setattr("gsp_deploy.bundle.opening.open_session", pytest.fail)
    monkeypatch.setattr("gsp_deploy.bundle.verification.read_golden", pytest.fail)


def refused(bundle: Path, said: str) -> None:
    """Hold that both ways into a bundle end, in one line that says so."""
    with pytest.raises((GateError, ModelFileError)) as opening:
        open_bundle(bundle)
    with pytest.raises((GateError, ModelFileError)) as verifying:
        verify_bundle(bundle).raise_on_failure()
    for error in (opening.value, verifying.value):
        assert said in str(error)
        assert "\n" not in str(error)


def moved_out(bundle: Path, name: str) -> Path:
    """Move a file or folder out of the bundle and link to it: the hashes fit as before."""
    outside = bundle.parent / "outside"
    shutil.move(bundle / name, outside)
    return outside


@pytest.mark.parametrize("name", ["tiny.onnx", "tiny.onnx.json", "golden/images.npy", "README.md"])
@pytest.mark.parametrize("relative", [False, True])
def test_a_file_that_is_a_link(name: str, relative: bool, bundle: Path) -> None:
    outside = moved_out(bundle, name)
    start = (bundle / name).parent
    (bundle / name).symlink_to(os.path.relpath(outside, start) if relative else outside)
    assert sha256_of(bundle / name)  # it leads somewhere
    refused(bundle, f"{name} is a link")


def test_a_folder_that_is_a_link(bundle: Path) -> None:
    (bundle / "golden").symlink_to(moved_out(bundle, "golden"))
    refused(bundle, "is a link")


@pytest.mark.parametrize("target", ["tiny.onnx", "../outside", "/dev/zero", "loop"])
def test_a_link_more_than_was_packaged(target: str, bundle: Path) -> None:
    (bundle / "loop").symlink_to(target)
    refused(bundle, "loop is a link")


@pytest.mark.parametrize("name", ["bundle.json", SUMS_NAME])
@pytest.mark.parametrize("target", ["outside", "/dev/zero", "nowhere"])
def test_a_manifest_that_is_a_link(name: str, target: str, bundle: Path) -> None:
    outside = moved_out(bundle, name)
    (bundle / name).symlink_to(outside if target == "outside" else target)
    refused(bundle, f"{name} cannot be read")


@pytest.mark.parametrize("name", ["bundle.json", SUMS_NAME])
def test_a_manifest_that_nobody_writes(name: str, bundle: Path) -> None:
    """Reading a pipe would wait for ever."""
    (bundle / name).unlink()
    os.mkfifo(bundle / name)
    refused(bundle, f"{name} cannot be read")


@pytest.mark.parametrize("is_listed", [False, True])
def test_a_pipe_among_the_files(is_listed: bool, bundle: Path) -> None:
    if is_listed:
        (bundle / "pipe").write_bytes(b"")
        write_sums(bundle)
        (bundle / "pipe").unlink()
    os.mkfifo(bundle / "pipe")
    refused(bundle, "pipe is missing" if is_listed else f"pipe is not in {SUMS_NAME}")


OUTSIDE = ["../outside", "golden/../../outside", "/etc/passwd", "a\\..\\outside", "./tiny.onnx"]
PLACES: dict[str, Callable[[dict, str], object]] = {
    "file": lambda data, name: data["artifacts"][0].update(file=name),
    "plugin": lambda data, name: data["artifacts"][0].update(plugin=name),
    "images": lambda data, name: data["golden"].update(images=name),
    "embeddings": lambda data, name: data["golden"].update(embeddings=name),
    "photograph": lambda data, name: data["golden"].update(photograph=name),
}


@pytest.mark.parametrize("name", OUTSIDE)
@pytest.mark.parametrize("place", PLACES)
def test_a_manifest_that_names_what_is_outside(place: str, name: str, bundle: Path) -> None:
    (bundle.parent / "outside").write_bytes((bundle / "tiny.onnx").read_bytes())
    data = json.loads((bundle / "bundle.json").read_text())
    PLACES[place](data, name)
    (bundle / "bundle.json").write_text(json.dumps(data))
    write_sums(bundle)
    refused(bundle, "within the bundle")


@pytest.mark.parametrize("name", OUTSIDE)
def test_sums_that_name_what_is_outside(name: str, bundle: Path) -> None:
    outside = bundle.parent / "outside"
    outside.write_bytes(b"x")
    with (bundle / SUMS_NAME).open("a") as sums:
        sums.write(f"{sha256_of(outside)}  {name}\n")
    refused(bundle, "within the bundle")


def test_a_bundle_may_itself_be_reached_by_a_link(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `current -> v3` on a robot; packaging over it is what is refused."""
    monkeypatch.setattr("gsp_deploy.bundle.opening.open_session", lambda *_, **__: "opened")
    link = bundle.parent / "current"
    link.symlink_to(bundle)
    assert open_bundle(link) == "opened"
    with pytest.raises(GspDeployError, match="is no bundle"):
        refuse_to_replace(link, force=True, known_by="bundle.json")

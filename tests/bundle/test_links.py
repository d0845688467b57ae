"""A bundle with links or names to other places is refused before anything is opened."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from gsp_deploy.artifact.identity import SUMS_NAME
from gsp_deploy.base.files import sha256_of
from gsp_deploy.base.folders import refuse_to_replace
from gsp_deploy.bundle import open_bundle, verify_bundle
from gsp_deploy.bundle.files import write_sums
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
def test_a_link_to_another_file(name: str, bundle: Path) -> None:
    outside = moved_out(bundle, name)
    outside.write_bytes(outside.read_bytes() + b" ")
    (bundle / name).symlink_to(outside)
    refused(bundle, f"{name} is not the file that was packaged")


@pytest.mark.parametrize("target", ["nowhere", "tiny.onnx", "/dev/zero", "/proc/self/environ"])
def test_a_link_to_no_plain_file(target: str, bundle: Path) -> None:
    moved_out(bundle, "tiny.onnx")
    (bundle / "tiny.onnx").symlink_to(target)  # to itself, among others
    refused(bundle, "tiny.onnx is missing, or no plain file")


def test_a_folder_that_is_a_link(bundle: Path) -> None:
    (bundle / "golden").symlink_to(moved_out(bundle, "golden"))
    refused(bundle, "golden is a link to a folder")


@pytest.mark.parametrize("target", ["/", ".", ".."])
def test_a_linked_folder_more_than_was_packaged(target: str, bundle: Path) -> None:
    (bundle / "more").symlink_to(target)
    refused(bundle, "more is a link to a folder")


@pytest.mark.parametrize("target", ["tiny.onnx", "../outside", "/dev/zero", "loop"])
def test_a_link_more_than_was_packaged(target: str, bundle: Path) -> None:
    (bundle / "loop").symlink_to(target)
    refused(bundle, f"loop is not in {SUMS_NAME}")


@pytest.mark.parametrize("name", ["bundle.json", SUMS_NAME])
@pytest.mark.parametrize("target", ["/dev/zero", "nowhere", "/proc/self/environ"])
def test_a_manifest_that_is_a_link_to_no_plain_file(name: str, target: str, bundle: Path) -> None:
    moved_out(bundle, name)
    (bundle / name).symlink_to(target)
    refused(bundle, f"{name} cannot be read")


def test_a_file_that_may_not_be_read(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def deny(path: Path) -> str:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr("gsp_deploy.bundle.files.sha256_of", deny)
    refused(bundle, "cannot be read (")


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
    with pytest.raises(GspDeployError, match="is not a bundle"):
        refuse_to_replace(link, force=True, known_by="bundle.json")

"""What a C++ program says of bundles that do not fit, or mean harm; Python says the same."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from gsp_deploy.bundle import BundleOptions, verify_bundle
from gsp_deploy.bundle.files import write_sums
from gsp_deploy.errors import GspDeployError

from .native import Build


def edit(folder: Path, change: Callable[[dict], object]) -> None:
    """Change bundle.json and make the hashes fit it, as whoever means harm would."""
    path = folder / "bundle.json"
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))
    write_sums(folder)


def shift_golden(folder: Path) -> None:
    path = folder / "golden/embeddings.npy"
    np.save(path, np.load(path) + np.float32(0.1))
    write_sums(folder)


def shift_pixels(folder: Path) -> None:
    path = folder / "golden/images.npy"
    images = np.load(path)
    images[0] ^= 8
    np.save(path, images)
    write_sums(folder)


def link_to(target: str, name: str = "tiny.onnx") -> Callable[[Path], None]:
    def link(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        os.symlink(target, folder / name)

    return link


def link_all_files(folder: Path) -> None:
    """Lay a bundle out as a download cache does: links into a folder of blobs."""
    blobs = folder.parent / "blobs"
    blobs.mkdir()
    for index, path in enumerate(sorted(p for p in folder.rglob("*") if p.is_file())):
        blob = blobs / str(index)
        shutil.move(path, blob)
        os.symlink(os.path.relpath(blob, path.parent), path)


def link_golden(folder: Path) -> None:
    shutil.move(folder / "golden", folder.parent / "elsewhere")
    os.symlink(folder.parent / "elsewhere", folder / "golden")


def lead_out(folder: Path) -> None:
    with open(folder / "SHA256SUMS", "a") as stream:
        stream.write(f"{'0' * 64}  ../../etc/passwd\n")


def naming(file: str) -> Callable[[Path], None]:
    return lambda folder: edit(folder, lambda data: data["artifacts"][0].update(file=file))


def with_golden(images: str) -> Callable[[Path], None]:
    return lambda folder: edit(folder, lambda data: data["golden"].update(images=images))


def run_by(runtime: str) -> Callable[[Path], None]:
    return lambda folder: edit(folder, lambda data: data["artifacts"][0].update(runtime=runtime))


TAMPERINGS = {
    "changed": (lambda f: (f / "tiny.onnx").write_bytes(b"other"), 3, "is not the file that was"),
    "missing": (lambda f: (f / "tiny.onnx").unlink(), 3, "tiny.onnx is missing"),
    "added": (lambda f: (f / "more.so").write_bytes(b""), 3, "more.so is not in SHA256SUMS"),
    "link to another file": (link_to("/etc/passwd"), 3, "is not the file that was"),
    "link to nothing": (link_to("nowhere"), 3, "tiny.onnx is missing, or no plain file"),
    "link to a device": (link_to("/dev/zero"), 3, "tiny.onnx is missing, or no plain file"),
    "link to the system": (link_to("/proc/self/environ"), 3, "missing, or no plain file"),
    "link to itself": (link_to("loop", "loop"), 3, "loop is not in SHA256SUMS"),
    "sums on a device": (link_to("/dev/zero", "SHA256SUMS"), 1, "is this a bundle?"),
    "linked folder": (link_golden, 3, "golden is a link to a folder, which a bundle must not"),
    "sums lead out": (lead_out, 1, "../../etc/passwd"),
    "no sums": (lambda f: (f / "SHA256SUMS").unlink(), 1, "is this a bundle?"),
    "golden": (shift_golden, 3, "cosine distance"),
    "pixels": (shift_pixels, 3, "golden photograph"),
    "file leads out": (naming("../x.onnx"), 1, "../x.onnx"),
    "absolute": (with_golden("/etc/passwd"), 1, "/etc/passwd"),
    "format": (lambda f: edit(f, lambda d: d.update(format=2)), 1, "format"),
    "runtime": (run_by("tvm"), 1, "tvm"),
    "no json": (lambda f: ((f / "bundle.json").write_text("{"), write_sums(f)), 1, "bundle.json"),
    "no artifacts": (lambda f: edit(f, lambda d: d.update(artifacts=[])), 1, "artifact"),
    "crop ratio": (
        lambda f: edit(f, lambda d: d["preprocessing"].update(crop_ratio=0)), 1, "crop_ratio",
    ),
}  # fmt: skip


def batches_of(count: int) -> Callable[[Path], None]:
    return lambda folder: edit(folder, lambda d: d["artifacts"][0].update(fixed_batch=count))


def list_a_pipe(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    with open(folder / "SHA256SUMS", "a") as stream:
        stream.write(f"{'0' * 64}  pipe\n")


HARMFUL = {
    # 48 * 48 * 3 * 4 bytes an image, times this, is 0 in 64 bits: no room for the images that come.
    "batch": (batches_of(2**52), 1, "fixed_batch is out of range"),
    "pipe": (list_a_pipe, 3, "pipe is missing, or no plain file"),
    "line breaks": (naming("x\nerror: y\x1b[2J"), 1, "names 'x?error: y?[2J', which leads out"),
    "zero byte": (naming("tiny.onnx\0.png"), 1, "which leads out"),
}


@pytest.mark.parametrize("name", HARMFUL)
def test_what_means_harm_is_refused_in_a_line(
    name: str, sanitized: Build, bundle: Path, tmp_path: Path
) -> None:
    tamper, code, words = HARMFUL[name]
    folder = tmp_path / "bundle"
    shutil.copytree(bundle, folder)
    tamper(folder)
    done = sanitized.run("embed_images", folder, "--selftest")
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    assert words in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda data: data.pop("model"), "bundle.json: 'model' is missing"),
        (lambda data: data.update(model=1), "bundle.json: model: expected a string"),
        (lambda data: data["golden"].pop("images"), "bundle.json: golden: 'images' is missing"),
        (
            lambda data: data["artifacts"][0]["input"].update(name=[]),
            "bundle.json: artifacts[0].input.name: expected a string",
        ),
        (
            lambda data: data["preprocessing"]["std"].__setitem__(2, None),
            "bundle.json: preprocessing.std[2]: expected a number",
        ),
    ],
)
def test_what_is_wrong_in_a_manifest_is_told_by_its_place(
    change: Callable[[dict], object], says: str, sanitized: Build, bundle: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(bundle, folder)
    edit(folder, change)
    done = sanitized.run("embed_images", folder, "--selftest")
    assert done.returncode == 1
    assert done.stderr == f"error: {folder}/{says}; package the model again\n"


def test_a_link_is_told_by_its_own_name(sanitized: Build, bundle: Path, tmp_path: Path) -> None:
    shutil.copytree(bundle, tmp_path / "bundle")
    os.symlink("/etc", tmp_path / "bundle" / "more")
    done = sanitized.run("embed_images", f"{tmp_path}/bundle/", "--selftest")
    assert done.returncode == 3
    assert done.stderr == "error: more is a link to a folder, which a bundle must not hold\n"


def test_links_into_a_cache_are_files_like_others(
    sanitized: Build, bundle: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(bundle, folder)
    link_all_files(folder)
    done = sanitized.run("embed_images", folder, "--selftest")
    assert done.returncode == 0, done.stderr
    verify_bundle(folder).raise_on_failure()


@pytest.mark.parametrize("name", TAMPERINGS)
def test_what_does_not_fit_is_one_line_in_both_languages(
    name: str, sanitized: Build, bundle: Path, tmp_path: Path
) -> None:
    tamper, code, words = TAMPERINGS[name]
    folder = tmp_path / "bundle"
    shutil.copytree(bundle, folder)
    tamper(folder)
    done = sanitized.run("embed_images", folder, "--selftest")
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    assert done.stderr.count("\n") == 1
    assert words in done.stderr
    with pytest.raises(GspDeployError) as raised:
        verify_bundle(folder).raise_on_failure()
    assert raised.value.exit_code == code
    assert words in str(raised.value)


def test_an_engine_gives_way_only_when_told_to(library: Build, engine_bundle: Path) -> None:
    """This machine and this build have no TensorRT."""
    done = library.run("embed_images", engine_bundle, "--selftest")
    assert done.returncode == 4
    assert "tiny.engine needs TensorRT" in done.stderr
    assert "when fallback is allowed" in done.stderr
    lines = library.lines("embed_images", engine_bundle, "--selftest", "--fallback")
    assert lines[1].startswith("fallback to tiny.onnx: tiny.engine needs TensorRT")
    assert (
        library.run(
            "embed_images", engine_bundle, "--selftest", "--backend", "onnxruntime"
        ).returncode
        == 0
    )
    assert verify_bundle(engine_bundle, BundleOptions(allow_fallback=True)).passed

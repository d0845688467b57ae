"""`gsp-deploy serve` as a process: its address, its answers, and how it stops."""

from __future__ import annotations

import io
import json
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gsp_deploy import open_session
from gsp_deploy.bundle import open_bundle
from gsp_deploy.bundle.packaging import PackageOptions, package_model

COMMAND = [sys.executable, "-m", "gsp_deploy_cli.main", "serve"]


@contextmanager
def serving(model: object):
    """Run a server in a process; yield it and its address."""
    arguments = [str(model), "--port", "0", "--threads", "1", "--json", "--window-ms", "50"]
    with subprocess.Popen(
        [*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            lines = iter(process.stdout.readline, "}\n")
            yield process, json.loads("".join(lines) + "}")["url"]
        finally:
            process.kill()


@pytest.fixture(scope="module")
def bundle(tiny_export: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model as a bundle."""
    folder = tmp_path_factory.mktemp("bundle")
    picture = folder / "golden.png"
    Image.effect_noise((40, 40), 90).convert("RGB").save(picture)
    options = PackageOptions(images=[str(picture)])
    return package_model(tiny_export, folder / "tiny-bundle", options).folder


def embed(url: str, pixels: np.ndarray) -> list[float]:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    asked = urllib.request.Request(f"{url}/embed", stream.getvalue(), {"Content-Type": "image/png"})
    with urllib.request.urlopen(asked, timeout=60) as reply:
        return json.load(reply)["embeddings"][0]["embedding"]


def test_it_serves_until_it_is_told_to_stop(tiny_export: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (12, 32, 32, 3), dtype=np.uint8)
    with serving(tiny_export) as (process, url):
        with ThreadPoolExecutor(12) as pool:
            found = list(pool.map(lambda image: embed(url, image), pixels))
        with open_session(tiny_export) as session:
            np.testing.assert_allclose(found, session.embed(pixels), atol=1e-5)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        told = process.stderr.read()
    assert "stopped; every accepted request was answered" in told
    assert "Traceback" not in told


def test_it_serves_a_bundle(bundle: Path) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    with serving(bundle) as (process, url):
        found = embed(url, pixels)
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
    with open_bundle(bundle) as session:
        np.testing.assert_allclose([found], session.embed(pixels[np.newaxis]), atol=1e-5)


def test_a_bundle_that_was_changed_is_not_served(bundle: Path, tmp_path: Path, run_here) -> None:
    changed = tmp_path / "changed"
    shutil.copytree(bundle, changed)
    (changed / "LICENSE").write_text("other")
    code, _, told = run_here("serve", changed, "--port", "0")
    assert code == 3
    assert "LICENSE" in told


@pytest.mark.parametrize(
    ("arguments", "code", "named"),
    [
        (("--name", "a b"), 2, "pass --name"),
        (("--max-batch", "0"), 2, "max_batch"),
        (("--host", "192.0.2.1"), 1, "cannot listen on 192.0.2.1"),
        (("--allow-fallback",), 2, "belongs to a bundle"),
    ],
)
def test_what_cannot_be_served_is_one_line(
    tiny_export: str, arguments, code, named, run_here
) -> None:
    found, _, told = run_here("serve", tiny_export, "--port", "0", *arguments)
    assert found == code
    assert named in told


def test_a_port_in_use_is_named(tiny_export: str, run_here) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, _, told = run_here("serve", tiny_export, "--port", port)
    assert code == 1
    assert f"port {port}" in told

"""`gsp-deploy serve` as a process: its address, its answers, and how it stops."""

from __future__ import annotations

import io
import json
import signal
import socket
import subprocess
import sys
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from gsp_deploy import open_session

COMMAND = [sys.executable, "-m", "gsp_deploy_cli.main", "serve"]


@pytest.fixture
def serving(tiny_export: str):
    """A server of the tiny model in a process, and its address."""
    arguments = [tiny_export, "--port", "0", "--threads", "1", "--json", "--window-ms", "50"]
    with subprocess.Popen(
        [*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            lines = iter(process.stdout.readline, "}\n")
            yield process, json.loads("".join(lines) + "}")["url"]
        finally:
            process.kill()


def embed(url: str, pixels: np.ndarray) -> list[float]:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    asked = urllib.request.Request(f"{url}/embed", stream.getvalue(), {"Content-Type": "image/png"})
    with urllib.request.urlopen(asked, timeout=60) as reply:
        return json.load(reply)["embeddings"][0]["embedding"]


def test_it_serves_until_it_is_told_to_stop(serving, tiny_export: str) -> None:
    process, url = serving
    pixels = np.random.default_rng(0).integers(0, 256, (12, 32, 32, 3), dtype=np.uint8)
    with ThreadPoolExecutor(12) as pool:
        found = list(pool.map(lambda image: embed(url, image), pixels))
    with open_session(tiny_export) as session:
        np.testing.assert_allclose(found, session.embed(pixels), atol=1e-5)
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0
    told = process.stderr.read()
    assert "stopped; every accepted request was answered" in told
    assert "Traceback" not in told


@pytest.mark.parametrize(
    ("arguments", "code", "named"),
    [
        (("--name", "a b"), 2, "pass --name"),
        (("--max-batch", "0"), 2, "max_batch"),
        (("--host", "192.0.2.1"), 1, "cannot listen on 192.0.2.1"),
    ],
)
def test_what_cannot_be_served_is_one_line(tiny_export: str, arguments, code, named) -> None:
    ran = subprocess.run(
        [*COMMAND, tiny_export, "--port", "0", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert ran.returncode == code
    assert named in ran.stderr
    assert "Traceback" not in ran.stderr


def test_a_port_in_use_is_named(tiny_export: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ran = subprocess.run(
            [*COMMAND, tiny_export, "--port", str(port)],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
    assert ran.returncode == 1
    assert f"port {port}" in ran.stderr

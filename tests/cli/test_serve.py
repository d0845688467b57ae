"""`gsp-deploy serve` as a process: its address, its answers, and how it stops."""

from __future__ import annotations

import io
import json
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import urllib.error
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
def serving(model: object, *more: object):
    """Run a server in a process; yield it and its address."""
    arguments = [str(model), "--port", "0", "--threads", "1", "--json", "--window-ms", "50"]
    arguments += map(str, more)
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
    assert "stopped; every accepted request was answered, none was dropped" in told
    assert f"there is no authentication: everybody who reaches {url} can use the model" in told
    assert "Traceback" not in told


def test_with_keys_it_asks_for_one(tiny_export: str, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("a-key-for-the-test-0123\n")
    keys.chmod(0o644)
    with serving(tiny_export, "--api-key-file", keys) as (process, url):
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(f"{url}/v2", timeout=60)
        asked = urllib.request.Request(
            f"{url}/v2", headers={"X-API-Key": "a-key-for-the-test-0123"}
        )
        assert urllib.request.urlopen(asked, timeout=60).status == 200
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
        told = process.stderr.read()
    assert "other users can read or write" in told
    assert "no authentication" not in told
    assert "a-key-for-the-test-0123" not in told


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 and its key, made by openssl."""
    folder = tmp_path_factory.mktemp("tls")
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl to make a certificate")
    found = folder / "cert.pem", folder / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
         "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1",
         "-out", found[0], "-keyout", found[1]],
        check=True, capture_output=True,
    )  # fmt: skip
    return found


def test_it_serves_over_tls(tiny_export: str, certificate) -> None:
    cert, key = certificate
    with serving(tiny_export, "--tls-cert", cert, "--tls-key", key) as (process, url):
        assert url.startswith("https://")
        trusted = ssl.create_default_context(cafile=cert)
        for path in ("/health/ready", "", "/health/live"):
            with urllib.request.urlopen(f"{url}/v2{path}", timeout=60, context=trusted) as reply:
                assert reply.status == 200
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0


def test_a_client_that_never_begins_tls_is_cut(tiny_export: str, certificate) -> None:
    cert, key = certificate
    with serving(tiny_export, "--tls-cert", cert, "--tls-key", key, "--head-seconds", "1") as (
        _,
        url,
    ):
        host, port = url.removeprefix("https://").split(":")
        with socket.create_connection((host, int(port)), 30) as connection:
            assert connection.recv(1) == b""  # asyncio alone waits for a minute


def test_requests_that_are_dropped_are_counted_in_the_last_line(tiny_export: str) -> None:
    """The body that never comes keeps the request under way until the server gives it up."""
    short = ("--linger-seconds", 0, "--drain-seconds", 1)
    with serving(tiny_export, *short) as (process, url):
        host, port = url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), 60) as connection:
            connection.sendall(b"POST /embed HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nab")
            urllib.request.urlopen(f"{url}/v2/health/ready", timeout=60)
            process.send_signal(signal.SIGTERM)
            assert connection.recv(4096).startswith(b"HTTP/1.1 503 ")
        assert process.wait(30) == 1
        told = process.stderr.read()
    assert "stopped; 1 requests were dropped" in told
    assert "Traceback" not in told


def test_a_model_that_is_a_link_into_a_cache_has_the_links_name(
    tiny_export: str, tmp_path: Path
) -> None:
    """The blobs that the links lead to have hashes for names."""
    for name, source in (("m.onnx", tiny_export), ("m.onnx.json", f"{tiny_export}.json")):
        (tmp_path / f"blob-of-{name}").write_bytes(Path(source).read_bytes())
        (tmp_path / name).symlink_to(tmp_path / f"blob-of-{name}")
    with (
        serving(tmp_path / "m.onnx") as (_, url),
        urllib.request.urlopen(f"{url}/v2/models/m/ready", timeout=60) as reply,
    ):
        assert reply.status == 200


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
        (("--tls-cert", __file__), 2, "--tls-cert and --tls-key belong together"),
        (("--tls-cert", __file__, "--tls-key", __file__), 2, "as PEM files"),
        (("--api-key-file", __file__), 2, "expected API keys of at least 16"),
        (("--api-key-file", "nowhere"), 2, "nowhere"),
        (("--requests-per-second", "0"), 2, "requests_per_second"),
        (("--burst", "0"), 2, "burst"),
        (("--decode-seconds", "-1"), 2, "decode_s"),
        (("--max-connections", "0"), 2, "max_connections"),
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

"""A load test of `gsp-deploy serve`: latency against the batch window, and every reply checked.

A server in a process of its own, clients that ask one request after the other, bad requests mixed
in, some clients that hang up in the middle. Every reply to a good request is compared with the
same images embedded directly; every bad one must get its code. Then an overload, in which 503 is
an answer that clients heed, and a SIGTERM amid requests. Exit code 1 when anything was lost,
mixed up or answered wrongly.

`--endurance 100000` runs one long load instead, in ten rounds on one server, and reports the
memory (RSS) of the server and of its decoders after each round.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
from conditions import conditions, publish
from serving_requests import Call, Material, draw_call, images_of, png

from gsp_deploy import load_checkpoint, open_session
from gsp_deploy.export import ExportOptions, export_onnx
from gsp_deploy.images.preprocessing import fit_image

SHIPPED = "glyphs-lite0.safetensors"
DISTINCT = 64
HANG_UP = 0.01
ROUNDS = 10
NOT_READY = "not ready, not asked"


@dataclass
class Tally:
    """What came back in one scenario.

    Attributes:
        outcomes: how often each outcome was seen: `right`, `refused rightly`, `hung up`, and
            whatever went wrong, by name.
        milliseconds: latency of the good requests, their retries after 503 included.
        retries: how often 503 sent a client away for a while.
    """

    outcomes: Counter[str] = field(default_factory=Counter)
    milliseconds: list[float] = field(default_factory=list)
    retries: int = 0

    @property
    def wrong(self) -> int:
        """Requests that were lost, mixed up or answered with another code."""
        return sum(self.outcomes.values()) - sum(
            self.outcomes[fine] for fine in ("right", "refused rightly", "hung up", NOT_READY)
        )


@dataclass(frozen=True)
class Server:
    """A running `gsp-deploy serve`."""

    url: str
    model: str
    process: subprocess.Popen[str]


def main() -> int:
    """Run the scenarios, print what they gave, and return the exit code."""
    asked = _arguments()
    about = conditions(
        asked.threads, max_batch=asked.max_batch, bad_share=asked.bad, seed=asked.seed
    )
    with tempfile.TemporaryDirectory() as folder:
        model = asked.model or _export(Path(folder))
        material = _material(model, asked)
        if asked.endurance:
            results = _endurance(model, material, asked)
        else:
            results = _scenarios(model, material, asked)
    columns = ("scenario", "window, ms", "requests", "p50, ms", "p99, ms", "images a batch",
               "requests/s", "retries", "wrong", "server, MiB", "decoders, MiB")  # fmt: skip
    publish("serving", about, results, columns, [_row(r) for r in results], asked.json)
    return 1 if any(result["wrong"] for result in results) else 0


def _scenarios(model: Path, material: Material, asked: argparse.Namespace) -> list[dict[str, Any]]:
    results = [
        _scenario(model, material, asked, clients, window)
        for clients in asked.clients
        for window in asked.window_ms
    ]
    return [*results, _overload(model, material, asked), _drain(model, material, asked)]


def _endurance(model: Path, material: Material, asked: argparse.Namespace) -> list[dict[str, Any]]:
    """One server, ten rounds of requests; the memory after each."""
    clients, window, results = max(asked.clients), asked.window_ms[0], []
    round_of = argparse.Namespace(**vars(asked))
    round_of.requests = -(-asked.endurance // ROUNDS)
    with _serving(model, asked, window, 256) as server:
        for number in range(1, ROUNDS + 1):
            round_of.seed = asked.seed + number
            result = _load(f"round {number}", server, material, round_of, clients, window)
            results.append({**result, **_memory(server.process.pid)})
            print(f"round {number} of {ROUNDS}: {results[-1]}", file=sys.stderr, flush=True)
    return results


def _memory(pid: int) -> dict[str, float]:
    """Return the resident memory of a process, and that of all below it, in MiB."""
    below = [pid]
    for parent in below:
        for task in Path(f"/proc/{parent}/task").iterdir():
            below += map(int, (task / "children").read_text().split())
    return {"server_mib": _resident(pid), "decoders_mib": sum(map(_resident, below[1:]))}


def _resident(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, help="default: the shipped checkpoint as ONNX")
    parser.add_argument("--requests", type=int, default=2000, help="for each scenario")
    parser.add_argument(
        "--endurance", type=int, default=0, help="requests of one long load instead"
    )
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--window-ms", type=float, nargs="+", default=[0, 2, 5, 10, 20])
    parser.add_argument("--max-batch", type=int, default=16)
    parser.add_argument("--bad", type=float, default=0.1, help="share of bad requests")
    parser.add_argument("--threads", type=int, default=1, help="threads of one inference")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def _export(folder: Path) -> Path:
    with as_file(files("gsp_deploy_models") / SHIPPED) as checkpoint:
        options = ExportOptions(include_preprocessing=True)
        return export_onnx(load_checkpoint(checkpoint), folder / "model.onnx", options).path


def _material(model: Path, asked: argparse.Namespace) -> Material:
    with open_session(model, threads=asked.threads) as session:
        spec = session.info.preprocessing
        if spec is None:
            raise SystemExit(f"{model} does not say how images are prepared")
        drawn = images_of(DISTINCT, spec.height, asked.seed)
        pixels = np.stack([fit_image(image, spec) for image in drawn])
        return Material(tuple(png(image) for image in drawn), pixels, session.embed(pixels))


@contextmanager
def _serving(model: Path, asked: argparse.Namespace, window: float, queue: int) -> Iterator[Server]:
    command = [sys.executable, "-m", "gsp_deploy_cli.main", "serve", model, "--port", 0, "--json",
               "--threads", asked.threads, "--window-ms", window, "--queue-limit", queue,
               "--max-batch", asked.max_batch]  # fmt: skip
    with subprocess.Popen(
        [str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            told = json.loads("".join(iter(process.stdout.readline, "}\n")) + "}")
            yield Server(told["url"], told["model"], process)
        finally:
            process.terminate()


def _scenario(
    model: Path, material: Material, asked: argparse.Namespace, clients: int, window: float
) -> dict[str, Any]:
    with _serving(model, asked, window, 256) as server:
        name = "1 client" if clients == 1 else f"{clients} clients"
        return _load(name, server, material, asked, clients, window)


def _overload(model: Path, material: Material, asked: argparse.Namespace) -> dict[str, Any]:
    """Four times as many clients as there are places in the queue."""
    window, places = asked.window_ms[-1], asked.max_batch
    with _serving(model, asked, window, places) as server:
        name = f"overload: {4 * places} clients, {places} places"
        return _load(name, server, material, asked, 4 * places, window)


def _drain(model: Path, material: Material, asked: argparse.Namespace) -> dict[str, Any]:
    """SIGTERM amid requests; clients look at the health first, as a load balancer does for them.

    Everything that was asked is answered, and the process ends with 0.
    """
    window, clients = asked.window_ms[-1], max(asked.clients)
    with _serving(model, asked, window, 256) as server:
        result = _load("SIGTERM amid", server, material, asked, clients, window, stop_it=True)
        if code := server.process.wait(60):
            result["wrong"] += 1
            result["outcomes"][f"exit code {code}"] = 1
    return result


def _load(
    name: str,
    server: Server,
    material: Material,
    asked: argparse.Namespace,
    clients: int,
    window: float,
    stop_it: bool = False,
) -> dict[str, Any]:
    tally, started = Tally(), time.perf_counter()
    figures = asyncio.run(_clients(server, material, asked, clients, tally, stop_it))
    seconds = time.perf_counter() - started
    latency = np.percentile(tally.milliseconds or [np.nan], [50, 99])
    return {
        "scenario": name,
        "window_ms": window,
        "requests": sum(tally.outcomes.values()),
        "p50_ms": float(latency[0]),
        "p99_ms": float(latency[1]),
        "images_a_batch": figures,
        "requests_per_second": sum(tally.outcomes.values()) / seconds,
        "retries": tally.retries,
        "wrong": tally.wrong,
        "outcomes": dict(tally.outcomes),
    }


async def _clients(
    server: Server,
    material: Material,
    asked: argparse.Namespace,
    clients: int,
    tally: Tally,
    stop_it: bool,
) -> float | None:
    """Let the clients send all requests; return how many images a batch had on average."""
    left = iter(range(asked.requests))
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:

        async def client(number: int) -> None:
            draw = random.Random(f"{asked.seed} {clients} {number}")
            for count in left:
                if stop_it and count == asked.requests // 2:
                    server.process.send_signal(signal.SIGTERM)
                if stop_it and not await _is_ready(session, server):
                    tally.outcomes[NOT_READY] += 1
                    continue
                call = draw_call(material, server.model, asked.bad, draw)
                hangs_up = draw.random() < HANG_UP
                await _ask(session, server, material, call, hangs_up, tally)

        await asyncio.gather(*(client(number) for number in range(clients)))
        return None if stop_it else await _images_a_batch(session, server)


async def _ask(
    session: aiohttp.ClientSession,
    server: Server,
    material: Material,
    call: Call,
    hangs_up: bool,
    tally: Tally,
) -> None:
    """Send one request until it is answered with something else than 503."""
    started = time.perf_counter()
    while True:
        try:
            # Hanging up is a time-out of the client's: about when the server decodes or infers.
            limit = aiohttp.ClientTimeout(0.005 if hangs_up else 120)
            async with session.post(
                server.url + call.path, data=call.body, headers=call.headers, timeout=limit
            ) as reply:
                body, status, headers = await reply.read(), reply.status, reply.headers
        except asyncio.TimeoutError:
            tally.outcomes["hung up" if hangs_up else "lost"] += 1
            return
        except aiohttp.ClientError as error:
            tally.outcomes[f"lost: {type(error).__name__}"] += 1
            return
        if status != 503:
            break
        tally.retries += 1
        await asyncio.sleep(int(headers["Retry-After"]) * random.uniform(0.1, 0.3))
    tally.outcomes[_judge(call, material, status, headers, body)] += 1
    if call.images:
        tally.milliseconds.append(1000 * (time.perf_counter() - started))


def _judge(
    call: Call, material: Material, status: int, headers: Mapping[str, str], body: bytes
) -> str:
    """Return `right`, `refused rightly`, or what is wrong with the reply."""
    if status != call.status:
        return f"{call.kind}: {status} instead of {call.status}"
    if call.read is None:
        error = json.loads(body)["error"]
        return "refused rightly" if error and "\n" not in error else f"{call.kind}: no line"
    return "right" if material.is_right(call, call.read(body, headers)) else "mixed up"


async def _is_ready(session: aiohttp.ClientSession, server: Server) -> bool:
    try:
        async with session.get(f"{server.url}/v2/health/ready") as reply:
            return reply.status == 200
    except aiohttp.ClientError:
        return False


async def _images_a_batch(session: aiohttp.ClientSession, server: Server) -> float:
    async with session.get(f"{server.url}/metrics") as reply:
        lines = dict(line.rsplit(" ", 1) for line in (await reply.text()).splitlines())
    return float(lines["gsp_batch_images_sum"]) / float(lines["gsp_batch_images_count"])


def _row(result: dict[str, Any]) -> tuple[str, ...]:
    batch = result["images_a_batch"]
    return (
        result["scenario"],
        f"{result['window_ms']:g}",
        str(result["requests"]),
        f"{result['p50_ms']:.1f}",
        f"{result['p99_ms']:.1f}",
        "" if batch is None else f"{batch:.1f}",
        f"{result['requests_per_second']:.0f}",
        str(result["retries"]),
        str(result["wrong"]),
        *(f"{result[key]:.0f}" if key in result else "" for key in ("server_mib", "decoders_mib")),
    )


if __name__ == "__main__":
    sys.exit(main())

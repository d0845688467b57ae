"""Results are the same bytes in every run and with many threads, and memory does not grow."""

from __future__ import annotations

import gc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import pytest

from gsp_deploy import open_session

from .workshop import contents, run_here

EMBEDS = 4000
MOST_GROWTH = 8 << 20  # of some hundred MiB; a leak of an input a call would be 12 MiB
THREADS = 8

TWICE = {
    "train": "train|@recipe.toml|-o|>run",
    "export": "export|@model.safetensors|-o|>m.onnx",
    "export fp16": "export|@model.safetensors|-o|>m.onnx|--precision|fp16",
    "quantise": (
        "export|@model.safetensors|-o|>m.onnx|--precision|int8|--calibrate|@images/classes"
        "|--max-drop|99"
    ),
    "adopt": "adopt|@any.onnx|-o|>m.onnx|--normalize|--external-data",
    "package": "package|@model.onnx|-o|>bundle",
    "embed": "embed|@model.onnx|@images/classes|-o|>t.npy|--threads|1",
    "embed, .npz": "embed|@model.onnx|@images/classes|-o|>t.npz|--threads|1",
    "index": "index|@model.onnx|@images/classes|-o|>index|--threads|1",
}


def made_by(command: str, workshop: Path, output: Path) -> dict[str, bytes]:
    """Run a command whose words begin with `@` for the workshop and `>` for the output."""
    words = [
        str(workshop / word[1:]) if word[0] == "@" else word.replace(">", f"{output}/")
        for word in command.split("|")
    ]
    ran = run_here(*words)
    assert ran.code == 0, ran.err
    return contents(output)


@pytest.mark.parametrize("what", TWICE)
def test_twice_the_same_bytes(what: str, workshop: Path, tmp_path: Path, tried) -> None:
    first = made_by(TWICE[what], workshop, tmp_path / "output")
    (tmp_path / "output").rename(tmp_path / "first")  # the command's own words are in its records
    second = made_by(TWICE[what], workshop, tmp_path / "output")
    assert first.keys() == second.keys()
    differing = [name for name in first if first[name] != second[name]]
    assert not differing
    tried("Determinism", f"{what}, twice", f"the same bytes in {', '.join(first)}")


@pytest.mark.parametrize("model", ["model.onnx", "model.safetensors"])
@pytest.mark.parametrize("shared", [True, False], ids=["one session", "a session each"])
def test_threads_give_the_bytes_of_one(
    model: str, shared: bool, workshop: Path, tried: Callable[..., None]
) -> None:
    draw = np.random.default_rng(0)
    batches = [draw.integers(0, 256, (1 + i % 5, 32, 32, 3), dtype=np.uint8) for i in range(40)]
    with open_session(workshop / model, threads=1) as session:
        expected = [session.embed(batch).tobytes() for batch in batches]

        def embed_all(_: int) -> list[bytes]:
            if shared:
                return [session.embed(batch).tobytes() for batch in batches]
            with open_session(workshop / model, threads=1) as own:
                return [own.embed(batch).tobytes() for batch in batches]

        with ThreadPoolExecutor(THREADS) as pool:
            found = list(pool.map(embed_all, range(THREADS)))
    assert all(result == expected for result in found)
    kind = "one session" if shared else "a session each"
    tried("Concurrency", f"{model}: {THREADS} threads, {kind}", "the same bytes as with one thread")


@pytest.mark.parametrize("model", ["model.onnx", "model.safetensors"])
def test_memory_stays_flat(model: str, workshop: Path, tried) -> None:
    """Memory stays flat over many embeds; benchmarks/soak.py runs 100,000."""
    process = psutil.Process()
    images = np.zeros((1, 32, 32, 3), np.uint8)
    with open_session(workshop / model, threads=1) as session:
        for _ in range(EMBEDS // 4):
            session.embed(images)
        gc.collect()
        before = process.memory_info().rss
        for _ in range(EMBEDS):
            session.embed(images)
        gc.collect()
    assert process.memory_info().rss - before < MOST_GROWTH
    tried("Memory", f"{model}: {EMBEDS:,} embeds", f"grew by less than {MOST_GROWTH >> 20} MiB")

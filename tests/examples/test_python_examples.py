"""The examples run as they stand, and say what is true."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gsp_deploy import PreprocessingSpec, open_session
from gsp_deploy.images.preprocessing import load_image

EXAMPLES = Path(__file__).parents[2] / "plugins" / "examples" / "python"


def run(script: str, *arguments: object, seconds: float = 120) -> str:
    """Return what an example prints."""
    ran = subprocess.run(
        [sys.executable, EXAMPLES / script, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=seconds,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_every_example_is_run_here() -> None:
    named = set(re.findall(r"\"(\w+\.py)\"", Path(__file__).read_text()))
    assert {path.name for path in EXAMPLES.glob("*.py")} == named


def test_batch_job(tiny_export: str, tmp_path: Path) -> None:
    folder, output = tmp_path / "images", tmp_path / "out.npy"
    folder.mkdir()
    for k in range(5):
        noise = np.random.default_rng(k).integers(0, 256, (40, 33, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / f"{k}.png")
    (folder / "broken.png").write_bytes(b"no image")
    assert run("batch_job.py", tiny_export, folder, output, "--batch", 2) == (
        "5 embedded, 1 skipped\n"
    )
    ids = output.with_suffix(".ids.txt").read_text().splitlines()
    spec = PreprocessingSpec(32, 32)
    with open_session(tiny_export) as session:
        expected = session.embed(np.stack([load_image(name, spec) for name in ids]))
    np.testing.assert_allclose(np.load(output), expected, atol=1e-5)


@pytest.mark.slow
def test_spark_embed(tiny_export: str, tmp_path: Path) -> None:
    pytest.importorskip("pyspark", reason="needs pyspark")
    if shutil.which("java") is None:
        pytest.skip("Spark needs java, version 17 or later")
    import pyarrow.parquet

    folder, output = tmp_path / "images", tmp_path / "out.parquet"
    folder.mkdir()
    for k in range(5):
        noise = np.random.default_rng(k).integers(0, 256, (40, 33, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / f"{k}.png")
    (folder / "broken.png").write_bytes(b"no image")
    out = run("spark_embed.py", tiny_export, folder, output, "--batch", 2, seconds=600)
    assert "5 embedded, 1 skipped" in out
    rows = pyarrow.parquet.read_table(output).to_pylist()
    found = {Path(row["id"]).name: row for row in rows}
    assert "not an image" in found.pop("broken.png")["error"]
    spec = PreprocessingSpec(32, 32)
    with open_session(tiny_export) as session:
        expected = session.embed(np.stack([load_image(folder / name, spec) for name in found]))
    embeddings = np.array([row["embedding"] for row in found.values()])
    np.testing.assert_allclose(embeddings, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("script", "arguments", "said"),
    [
        ("threads.py", ("--threads", 3, "--batches", 6), "6 batches by 3 threads"),
        ("asyncio_service.py", ("--requests", 20), "20 requests in 3 batches"),
        ("zero_copy.py", (), "(4, 8) on cpu"),
    ],
)
def test_examples_prove_themselves(tiny_export, script, arguments, said) -> None:
    told = run(script, tiny_export, *arguments)
    assert told.startswith(said)
    assert float(told.rpartition(" ")[2]) < 1e-5

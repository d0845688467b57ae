"""`embed` from end to end: tables, data sets, object stores, and one line for each refusal."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

from gsp_deploy.retrieval.dataset import open_embeddings

COUNT = 12


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("photos")
    for number in range(COUNT):
        pixels = np.random.default_rng(number).integers(0, 256, (40, 36, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(place / f"{number:02}.png")
    (place / "05.png").write_bytes(b"no image")
    (place / "notes.txt").write_text("x")
    return place


def small(output: Path) -> list[object]:
    """The options of a data set that takes little time."""
    return ["-o", output, "--shard-size", 4, "--workers", 1, "--json"]


def test_a_data_set(tiny_export: str, photos: Path, tmp_path: Path, run_here) -> None:
    code, out, err = run_here("embed", tiny_export, photos, *small(tmp_path / "out"))
    assert code == 0, err
    told = json.loads(out)
    assert (told["images"], told["failures"], told["parts"]) == (COUNT - 1, 1, 3)
    assert told["complete"] is True
    assert told["reused"] == 0
    assert "passed over 1 file: 1 .txt" in err
    assert len(open_embeddings(tmp_path / "out").read()) == COUNT - 1
    code, out, _ = run_here("embed", tiny_export, photos, "-o", tmp_path / "out",
                            "--shard-size", 4)  # fmt: skip
    assert code == 0
    assert "3 parts, 3 of them finished before" in out


@pytest.mark.parametrize("name", ["t.npy", "t.npz", "t.parquet"])
def test_a_table_and_a_data_set_agree(
    name: str, tiny_export: str, photos: Path, tmp_path: Path, run_here
) -> None:
    assert run_here("embed", tiny_export, photos, *small(tmp_path / "out"))[0] == 0
    code, out, err = run_here("embed", tiny_export, photos, "-o", tmp_path / name, "--json")
    assert code == 0, err
    told = json.loads(out)
    assert [Path(entry["file"]).name for entry in told["skipped"]] == ["05.png"]
    table, stored = (open_embeddings(tmp_path / n).read() for n in (name, "out"))
    assert table.ids == stored.ids
    np.testing.assert_allclose(table.embeddings, stored.embeddings, atol=1e-5)


@pytest.mark.parametrize("output", ["t.npy", "out"])
def test_one_line_counts_what_is_no_image_in_folders_and_tars(
    output: str, tiny_export: str, photos: Path, tmp_path: Path, run_here
) -> None:
    archive = tmp_path / "s.tar"
    with tarfile.open(archive, "w") as packed:
        packed.add(photos / "00.png", "00.png")
        packed.addfile(tarfile.TarInfo("00.json"))
        packed.addfile(tarfile.TarInfo("00.txt"))
    words = ["embed", tiny_export, archive, photos, "-o", tmp_path / output, "--force"]
    for _ in range(2):
        code, _, err = run_here(*words)
        assert code == 0, err
        assert "passed over 3 files: 2 .txt, 1 .json\n" in err


def test_shards_say_whether_the_data_set_is_complete(
    tiny_export: str, photos: Path, tmp_path: Path, run_here
) -> None:
    words = ["embed", tiny_export, photos, "-o", tmp_path / "out", "--shard-size", 4]
    code, out, _ = run_here(*words, "--shard", "0/2")
    assert code == 0
    assert "not complete: other shards have parts to do" in out
    code, out, _ = run_here(*words, "--shard", "1/2", "--json")
    assert json.loads(out)["complete"] is True


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["-o", "t.npy", "--shard", "0/2"], "--shard belongs to a data set"),
        (["-o", "t.npz", "--store", "int8"], "--store belongs to a data set"),
        (["-o", "t.npz", "--also", "weights"], "--also weights needs a data set"),
        (["-o", "out", "--also", "logits"], "--also must be one of residual, weights"),
        (["-o", "out", "--shard", "2/2"], "expected a shard i/n"),
        (["-o", "out", "--address", "x"], "--address belongs to --on ray"),
        (["-o", "out", "--also", "weights"], "has no output 'weights'"),
        (["-o", "t.csv"], "expected an output ending in .npy, .npz, .parquet, or a folder"),
    ],
)
def test_options_that_do_not_fit(
    more: list[str], said: str, tiny_export: str, photos: Path, tmp_path: Path, run_here,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    code, out, err = run_here("embed", tiny_export, photos, *more)
    assert (code, out) == (2, "")
    assert said in " ".join(err.split())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("output", ["out", "t.npz"])
def test_strict_stops_at_a_broken_image(
    output: str, tiny_export: str, photos: Path, tmp_path: Path, run_here
) -> None:
    code, _, err = run_here("embed", tiny_export, photos, "-o", tmp_path / output, "--strict")
    assert code == 1
    assert "05.png: not an image" in err
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def bucket(photos: Path) -> Iterator[str]:
    """An S3 server on loopback with a bucket of the photos; another bucket denies access."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    settings = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1",
    }  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.items():
            patch.setenv(name, value)
        client = boto3.client("s3")
        client.create_bucket(Bucket="photos")
        for file in sorted(photos.iterdir()):
            client.upload_file(str(file), "photos", f"2024/{file.name}")
        yield "s3://photos"
    server.stop()


def test_a_bucket(tiny_export: str, photos: Path, bucket: str, tmp_path: Path, run_here) -> None:
    assert run_here("embed", tiny_export, photos, *small(tmp_path / "here"))[0] == 0
    code, out, err = run_here("embed", tiny_export, bucket, *small(tmp_path / "there"))
    assert code == 0, err
    assert json.loads(out)["images"] == COUNT - 1
    here, there = (open_embeddings(tmp_path / n).read() for n in ("here", "there"))
    np.testing.assert_array_equal(here.embeddings, there.embeddings)
    assert there.ids[0] == f"{bucket}/2024/00.png"
    again = run_here("embed", tiny_export, bucket, *small(tmp_path / "there"))
    assert json.loads(again[1])["reused"] == 3


@pytest.mark.parametrize(
    ("source", "code", "said"),
    [
        ("s3://photos/absent", 2, "no such file or folder"),
        ("s3://nowhere/x", 2, "no such file or folder"),
        ("gs://bucket/x", 4, "pip install 'gsp-deploy[cloud]'"),
        ("zz://bucket/x", 1, "Protocol not known"),
        ("http://127.0.0.1:9/x.tar", 1, "cannot be read"),
    ],
)
def test_stores_that_refuse(
    source: str, code: int, said: str, tiny_export: str, bucket: str, tmp_path: Path, run_here
) -> None:
    found, out, err = run_here("embed", tiny_export, source, *small(tmp_path / "out"))
    assert (found, out) == (code, ""), err
    assert said in " ".join(err.split())
    assert len([line for line in err.splitlines() if line.startswith("error: ")]) == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("source", ["/2024/", "/2024/00.png", "/2024/*.png"])
def test_a_bucket_without_permission(
    source: str, tiny_export: str, bucket: str, tmp_path: Path, run_here,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """The server checks credentials from now on, and it knows no such key."""
    from moto import settings

    monkeypatch.setattr(settings, "INITIAL_NO_AUTH_ACTION_COUNT", 0)
    words = ["embed", tiny_export, f"{bucket}{source}", *small(tmp_path / "out")]
    code, out, err = run_here(*words)
    assert (code, out) == (1, "")
    assert "access denied" in " ".join(err.split())
    assert "check the credentials and the permissions" in " ".join(err.split())
    assert not list(tmp_path.iterdir())


def test_without_pyarrow_and_fsspec(tiny_export: str, photos: Path, tmp_path: Path) -> None:
    """A table needs neither; a data set and a URL say which package they need."""
    script = (
        "import sys; sys.modules.update(pyarrow=None, fsspec=None)\n"
        "from gsp_deploy_cli.main import main; main()"
    )

    def run(source: object, output: str) -> tuple[int, str]:
        command = [sys.executable, "-c", script, "embed", tiny_export, str(source)]
        command += ["-o", str(tmp_path / output)]
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
        return ran.returncode, " ".join(ran.stderr.split())

    assert run(photos, "t.npy")[0] == 0
    code, said = run(photos, "out")
    assert (code, "need pyarrow: pip install pyarrow" in said) == (4, True)
    code, said = run("s3://photos/", "t.npz")
    assert (code, "pip install 'gsp-deploy[cloud]'" in said) == (4, True)


@pytest.mark.slow
def test_a_killed_parent_leaves_no_workers(
    tiny_export: str, photos: Path, tmp_path: Path, run_here
) -> None:
    """The workers end with the process that started them, and the next run completes the work."""
    words = ["embed", tiny_export, str(photos), "-o", str(tmp_path / "out"), "--shard-size", "2"]
    code = f"import sys; sys.argv = {['gsp-deploy', *words, '--workers', '2']!r}; "
    code += "from gsp_deploy_cli.main import main; main()"
    parent = psutil.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    workers: list[psutil.Process] = []
    deadline = time.monotonic() + 60
    while len(workers) < 3 and parent.poll() is None and time.monotonic() < deadline:
        workers = parent.children(recursive=True)
        time.sleep(0.02)
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    _, left = psutil.wait_procs(workers, timeout=30)
    assert not left
    assert run_here(*words, "--json")[0] == 0
    assert len(open_embeddings(tmp_path / "out").read()) == COUNT - 1


@pytest.fixture(scope="module")
def classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve images in three class folders."""
    root = tmp_path_factory.mktemp("classes")
    for number in range(12):
        place = root / f"class_{number % 3}" / f"{number}.png"
        place.parent.mkdir(exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (40, 36, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(place)
    return root


@pytest.mark.parametrize("name", ["out", "t.npz"])
def test_evaluate_reads_stored_embeddings(
    name: str, tiny_export: str, classes: Path, tmp_path: Path, run_here
) -> None:
    stored = tmp_path / name
    assert run_here("embed", tiny_export, classes, "-o", stored)[0] == 0
    data = ["--data", f"folder:{classes}", "--json"]
    found = [run_here("evaluate", model, *data) for model in (tiny_export, stored)]
    assert [code for code, _, _ in found] == [0, 0], found
    by_model, by_store = (json.loads(out)["models"] for _, out, _ in found)
    assert list(by_model.values()) == list(by_store.values())
    (classes / "class_0" / "new.png").write_bytes((classes / "class_0" / "0.png").read_bytes())
    code, _, err = run_here("evaluate", stored, *data)
    (classes / "class_0" / "new.png").unlink()
    assert code == 1
    said = "has no embedding of 1 of the 13 images, such as class_0/new.png"
    assert said in " ".join(err.split())


def test_check_compares_a_model_with_stored_embeddings(
    tiny_export: str, tiny_checkpoint: Path, classes: Path, tmp_path: Path, run_here
) -> None:
    stored = tmp_path / "out"
    assert run_here("embed", tiny_export, classes, *small(stored))[0] == 0
    code, out, err = run_here("check", stored, tiny_checkpoint, "--images", classes, "--json")
    assert code == 0, err
    told = json.loads(out)
    assert told["reference"]["path"] == str(stored)
    assert told["cosine_distance"]["max"] < 1e-5
    assert told["retrieval"] is not None
    words = ["check", stored, tiny_checkpoint, "--images", classes]
    code, _, err = run_here(*words, "--max-cosine-distance", "0")
    assert code == 3
    code, _, err = run_here(*words, "--layers")
    assert code == 2
    assert "--layers compares networks" in err


def test_check_needs_embeddings_that_record_their_model(
    tiny_export: str, classes: Path, tmp_path: Path, run_here
) -> None:
    assert run_here("embed", tiny_export, classes, "-o", tmp_path / "t.npz")[0] == 0
    code, _, err = run_here("check", tmp_path / "t.npz", tiny_export, "--images", classes)
    assert code == 2
    assert "does not record its model" in " ".join(err.split())

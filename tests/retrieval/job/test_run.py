"""Runs of `embed` into a data set: the same bytes by any route, and nothing lost on the way."""

from __future__ import annotations

import os
import random
import shutil
import signal
import tarfile
import time
import traceback
from pathlib import Path

import numpy as np
import pytest

from gsp_deploy import open_session
from gsp_deploy.errors import DataError, GspDeployError, OutputError, SourceError, UsageError
from gsp_deploy.images.preprocessing import load_image
from gsp_deploy.retrieval.dataset import open_embeddings
from gsp_deploy.retrieval.job import Shard, run_here, sole_run
from gsp_deploy.retrieval.job import worker as worker_module
from gsp_deploy.retrieval.job.repeats import refuse_repeated_ids

from .conftest import COUNT, SHARD_SIZE, complete, contents, tar_of

KILLS = 50


@pytest.fixture(scope="session")
def reference(prepare, pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data set of a run that nothing interrupted."""
    folder = tmp_path_factory.mktemp("reference") / "out"
    complete(prepare(folder, pictures))
    return folder


def test_the_embeddings_are_those_of_the_images(
    reference: Path, pictures: Path, tiny_export: str
) -> None:
    stored = open_embeddings(reference)
    found = stored.read()
    assert stored.manifest is not None
    assert (stored.manifest.images, stored.manifest.failures) == (COUNT - 1, 1)
    assert len(stored.manifest.parts) == -(-COUNT // SHARD_SIZE)
    assert list(found.ids) == sorted(found.ids)
    with open_session(tiny_export) as session:
        files = [load_image(name, session.info.require_preprocessing()) for name in found.ids]
        expected = session.embed(np.stack(files))
    np.testing.assert_allclose(found.embeddings, expected, atol=1e-5)


def test_a_broken_image_is_a_row_of_the_failures(reference: Path) -> None:
    import pyarrow.parquet

    (file,) = reference.glob("failures-*.parquet")
    (row,) = pyarrow.parquet.read_table(file).to_pylist()
    assert row["id"].endswith("even/06.png")
    assert "not an image" in row["error"]


@pytest.mark.slow
def test_two_processes_write_the_same_bytes(
    prepare, pictures: Path, reference: Path, tmp_path: Path
) -> None:
    complete(prepare(tmp_path / "out", pictures), workers=2)
    assert contents(tmp_path / "out") == contents(reference)


def test_shards_write_the_same_bytes(
    prepare, pictures: Path, reference: Path, tmp_path: Path
) -> None:
    for index in (2, 0):
        assert complete(prepare(tmp_path / "out", pictures, shard=f"{index}/3")) is None
    with pytest.raises(UsageError, match=r"no _manifest\.json"):
        open_embeddings(tmp_path / "out")
    assert complete(prepare(tmp_path / "out", pictures, shard="1/3")) is not None
    assert contents(tmp_path / "out") == contents(reference)


@pytest.mark.parametrize("batch", [1, 3, 64])
def test_a_tar_gives_the_same_embeddings_in_pieces(
    batch: int, prepare, pictures: Path, reference: Path, tmp_path: Path
) -> None:
    archive = tar_of(pictures, tmp_path / "shard.tar")
    manifest = complete(prepare(tmp_path / "out", archive, batch=batch))
    names = [part.name for part in manifest.parts]
    assert names[:2] == ["part-00000.parquet", "part-00000-00001.parquet"]
    assert [part.last for part in manifest.parts] == [False] * 4 + [True]
    found, expected = (open_embeddings(f).read() for f in (tmp_path / "out", reference))
    np.testing.assert_allclose(found.embeddings, expected.embeddings, atol=1e-5)
    assert [Path(i).name for i in found.ids] == [Path(i).name for i in expected.ids]


def test_a_slice_that_ends_with_a_part_has_no_empty_one(prepare, pictures, tmp_path) -> None:
    archive = tar_of(pictures, tmp_path / "shard.tar", most=2 * SHARD_SIZE)
    manifest = complete(prepare(tmp_path / "out", archive))
    assert [part.last for part in manifest.parts] == [False, True]


def test_a_tar_continues_within_its_pieces(prepare, pictures: Path, tmp_path: Path) -> None:
    archive = tar_of(pictures, tmp_path / "shard.tar")
    complete(prepare(tmp_path / "out", archive))
    expected = contents(tmp_path / "out")
    for name in ("part-00000-00002.parquet", "part-00000-00003.parquet"):
        (tmp_path / "out" / name).unlink()
    run = prepare(tmp_path / "out", archive)
    complete(run)
    assert contents(tmp_path / "out") == expected
    assert run.counts.reused == 2


@pytest.mark.parametrize("name", ["part-00000.parquet", "_manifest.json"])
def test_what_a_killed_run_left_is_removed_though_nothing_is_missing(
    name: str, prepare, pictures: Path, reference: Path, tmp_path: Path
) -> None:
    shutil.copytree(reference, tmp_path / "out")
    left = tmp_path / "out" / f".{name}.abcdefgh"
    left.mkdir()
    (left / "lock").touch()
    complete(prepare(tmp_path / "out", pictures))
    assert not left.exists()
    assert contents(tmp_path / "out") == contents(reference)


def lose(part: Path) -> None:
    part.unlink()


def cut(part: Path) -> None:
    part.write_bytes(part.read_bytes()[:-9])


def flip(part: Path) -> None:
    data = bytearray(part.read_bytes())
    data[30] ^= 1
    part.write_bytes(data)


@pytest.mark.parametrize("name", ["part-00002.parquet", "failures-00000.parquet"])
@pytest.mark.parametrize("harm", [lose, cut, flip])
def test_a_damaged_part_is_written_again(
    harm, name: str, prepare, pictures: Path, reference: Path, tmp_path: Path
) -> None:
    shutil.copytree(reference, tmp_path / "out")
    harm(tmp_path / "out" / name)
    run = prepare(tmp_path / "out", pictures)
    notes: list[str] = []
    run.note = notes.append
    complete(run)
    assert contents(tmp_path / "out") == contents(reference)
    assert run.counts.reused == run.counts.parts - 1
    assert harm is lose or name in notes[0]


def test_a_finished_run_changes_nothing(prepare, pictures, reference, tmp_path) -> None:
    shutil.copytree(reference, tmp_path / "out")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    run = prepare(tmp_path / "out", pictures)
    complete(run)
    assert run.counts.reused == run.counts.parts
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()} == before


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"batch": 5}, "batch 4 before, 5 now"),
        ({"storage": "float16"}, "storage float32 before, float16 now"),
        ({"shard_size": 9}, "shard_size 8 before, 9 now"),
    ],
)
def test_a_changed_setting_needs_force(
    changes: dict, said: str, prepare, pictures: Path, reference: Path, tmp_path: Path
) -> None:
    shutil.copytree(reference, tmp_path / "out")
    with pytest.raises(UsageError, match=said):
        complete(prepare(tmp_path / "out", pictures, **changes))
    assert contents(tmp_path / "out") == contents(reference)
    manifest = complete(prepare(tmp_path / "out", pictures, force=True, **changes))
    assert manifest.images == COUNT - 1
    assert len(list((tmp_path / "out").glob("part-*"))) == len(manifest.parts)


def test_a_changed_source_needs_force(prepare, pictures: Path, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    shutil.copytree(pictures, photos)
    complete(prepare(tmp_path / "out", photos))
    os.utime(photos / "odd" / "01.png", ns=(5, 5))
    with pytest.raises(UsageError, match="its source has changed since"):
        complete(prepare(tmp_path / "out", photos))
    run = prepare(tmp_path / "out", photos, force=True)
    complete(run)
    assert run.counts.reused == run.counts.parts - 1
    shutil.rmtree(photos / "even")
    shutil.rmtree(photos / "odd")
    shutil.copytree(pictures / "odd", photos / "odd")
    complete(prepare(tmp_path / "out", photos, force=True))
    assert len(open_embeddings(tmp_path / "out").read()) == COUNT // 2


def test_a_source_that_changes_during_the_run_stops_it(
    prepare, pictures: Path, tmp_path: Path
) -> None:
    photos = tmp_path / "photos"
    shutil.copytree(pictures, photos)
    run = prepare(tmp_path / "out", photos)
    parts = run.parts(lambda job, tasks: run_here(job, tasks, 1))
    next(parts)
    (photos / "odd" / "15.png").unlink()
    with pytest.raises(SourceError, match=r"odd/15\.png changed during the run"):
        list(parts)
    kept = contents(tmp_path / "out")
    assert 0 < sum(name.startswith("part-") for name in kept) < 5
    assert "_manifest.json" not in kept


def test_an_id_twice_is_refused(prepare, pictures: Path, tmp_path: Path) -> None:
    names = [str(pictures / "odd" / f"{n:02}.png") for n in (1, 3, 1)]
    (tmp_path / "list.txt").write_text("\n".join(names))
    with pytest.raises(DataError, match=r"01\.png' is there twice"):
        complete(prepare(tmp_path / "out", tmp_path / "list.txt"))
    with pytest.raises(DataError, match=r"part-00000.parquet and part-00002.parquet"):
        complete(prepare(tmp_path / "out2", tmp_path / "list.txt", shard_size=1))
    assert "_manifest.json" not in contents(tmp_path / "out2")


def test_ids_are_compared_in_shares(reference: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = open_embeddings(reference).manifest.parts
    monkeypatch.setattr("gsp_deploy.retrieval.job.repeats.MOST_HASHES", 5)
    refuse_repeated_ids(reference, parts)
    with pytest.raises(DataError, match="is there twice"):
        refuse_repeated_ids(reference, (*parts, parts[0]))


def test_two_runs_into_one_folder(prepare, pictures: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    with sole_run(folder, None):
        for shard in (None, "0-of-2"):
            with pytest.raises(UsageError, match="another run is writing"), sole_run(folder, shard):
                pass
    with (
        sole_run(folder, "0-of-2"),
        sole_run(folder, "1-of-2"),
        pytest.raises(UsageError),
        sole_run(folder, "1-of-2"),
    ):
        pass
    with sole_run(folder, None):
        pass


def test_another_folder_is_left_alone(prepare, pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.doc").write_text("")
    with pytest.raises(UsageError, match=r"contains thesis\.doc, which embed did not make"):
        complete(prepare(tmp_path / "out", pictures))


def test_a_full_disk_keeps_what_is_written(
    prepare, pictures: Path, reference: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = worker_module.write_part

    def write(folder, part, *rest):
        if part.slice == 2:
            with open("/dev/full", "wb", buffering=0) as stream:
                stream.write(b"x")
        real(folder, part, *rest)

    def refused(folder, part, *rest):
        try:
            write(folder, part, *rest)
        except OSError as error:
            raise OutputError(folder / part.name, error.strerror) from error

    monkeypatch.setattr(worker_module, "write_part", refused)
    with pytest.raises(OutputError, match="No space left on device"):
        complete(prepare(tmp_path / "out", pictures))
    kept = contents(tmp_path / "out")
    assert {name: contents(reference)[name] for name in kept} == kept
    assert "part-00001.parquet" in kept
    monkeypatch.undo()
    complete(prepare(tmp_path / "out", pictures))
    assert contents(tmp_path / "out") == contents(reference)


@pytest.mark.parametrize("also", ["weights", "residual"])
def test_an_output_that_the_model_lacks(also: str, prepare, pictures, tmp_path) -> None:
    with pytest.raises(UsageError, match=f"has no output.*--also {also}"):
        prepare(tmp_path / "out", pictures, also=(also,))


@pytest.mark.parametrize("text", ["3/3", "x/2", "1", "-1/2", "0/0"])
def test_shards_that_do_not_exist(text: str) -> None:
    with pytest.raises(UsageError, match="expected a shard i/n"):
        Shard.parse(text)


def test_only_broken_images(prepare, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"x")
    with pytest.raises(DataError, match="none of the 1 images"):
        complete(prepare(tmp_path / "out", tmp_path / "a.png"))


def test_a_tar_without_images(prepare, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        archive.addfile(tarfile.TarInfo("notes.txt"))
    with pytest.raises(DataError, match=r"no image in .*a\.tar.*passed over 1 file: 1 \.txt"):
        complete(prepare(tmp_path / "out", tmp_path / "a.tar"))


def test_what_is_no_image_in_a_tar_is_counted_once_after_a_kill_too(
    prepare, pictures: Path, tmp_path: Path
) -> None:
    archive = tar_of(pictures, tmp_path / "shard.tar")
    with tarfile.open(archive, "a") as packed:
        for name in ("00.json", "01.json", "02.txt"):
            packed.addfile(tarfile.TarInfo(name))
    copy = shutil.copy(archive, tmp_path / "copy.tar")
    words = "passed over 6 files: 4 .json, 2 .txt"
    sources = (archive, copy, pictures)
    run = prepare(tmp_path / "out", *sources)
    complete(run, workers=2)
    assert str(run.counts.passed_over) == words
    (tmp_path / "out" / "part-00000-00004.parquet").unlink()
    (tmp_path / "out" / "part-00001-00001.parquet").unlink()
    for _ in range(2):
        run = prepare(tmp_path / "out", *sources)
        complete(run)
        assert str(run.counts.passed_over) == words


def test_errors_survive_the_way_between_processes() -> None:
    import pickle

    for error in (OutputError(Path("a"), "full"), UsageError("b"), SourceError("c")):
        again: GspDeployError = pickle.loads(pickle.dumps(error))
        assert (type(again), str(again)) == (type(error), str(error))


@pytest.mark.slow
def test_fifty_kills_lose_and_double_nothing(
    prepare, pictures: Path, reference: Path, tmp_path: Path
) -> None:
    """SIGKILL at random moments: after each, all parts are whole; at the end the bytes agree."""
    draw = random.Random(0)
    folder, expected = tmp_path / "out", contents(reference)
    run = prepare(folder, pictures)
    started = time.monotonic()
    complete(prepare(tmp_path / "timed", pictures))
    lasts = time.monotonic() - started
    kills = finished = 0
    while kills < KILLS:
        child = os.fork()
        if child == 0:
            try:
                complete(run)
                os._exit(0)
            except BaseException:
                traceback.print_exc()
            finally:  # the fork must not go on with the tests
                os._exit(1)
        time.sleep(draw.uniform(0, 0.7 * lasts))
        os.kill(child, signal.SIGKILL)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        killed = status == -signal.SIGKILL
        assert killed or status == 0
        kills += killed
        kept = contents(folder) if folder.exists() else {}
        assert {name: expected[name] for name in kept} == kept
        if not killed:
            finished += 1
            assert kept == expected
            shutil.rmtree(folder)
    complete(run)
    assert contents(folder) == expected
    assert not [path for path in folder.iterdir() if path.is_dir()]

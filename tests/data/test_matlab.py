"""A separate process reads MATLAB files, so a crash or a hang does no harm."""

from __future__ import annotations

import os
import random
import signal
from pathlib import Path

import numpy as np
import pytest

from gsp_deploy.data import matlab
from gsp_deploy.data.matlab import read_matlab
from gsp_deploy.errors import DataError

scipy_io = pytest.importorskip("scipy.io", reason="scipy is not installed")


@pytest.fixture
def table(tmp_path: Path) -> Path:
    rows = [("car_ims/1.jpg", 7, 0.5), ("car_ims/2.jpg", 8, 0.5)]
    kinds = [("relative_im_path", object), ("class", object), ("bbox", object)]
    path = tmp_path / "cars_annos.mat"
    names = np.array(["a", "b"], object)
    scipy_io.savemat(path, {"annotations": np.array(rows, kinds), "class_names": names})
    return path


def worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """Let another program read the file."""
    script = tmp_path / "worker.py"
    script.write_text(code)
    monkeypatch.setattr(matlab, "_WORKER", script)


def test_the_fields_that_are_asked_for_come_as_plain_data(table: Path) -> None:
    assert read_matlab(table, ("relative_im_path", "class", "absent")) == {
        "annotations": [
            {"relative_im_path": "car_ims/1.jpg", "class": 7},
            {"relative_im_path": "car_ims/2.jpg", "class": 8},
        ],
        "class_names": ["a", "b"],
    }


@pytest.mark.parametrize("end", ["SIGSEGV", "SIGABRT"])
def test_a_reader_that_crashes_is_one_line(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    number = getattr(signal, end)
    worker(tmp_path, monkeypatch, f"import os; os.kill(os.getpid(), {int(number)})")
    with pytest.raises(DataError, match=rf"its reader ended by {end}\); unpack the archive again"):
        read_matlab(table, ())


def test_a_reader_that_hangs_is_ended(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker(tmp_path, monkeypatch, "import time; time.sleep(600)")
    with pytest.raises(DataError, match=r"took more than 0\.5 s"):
        read_matlab(table, (), seconds=0.5)


def test_altered_files_are_read_or_refused(table: Path) -> None:
    whole, draw, refusals = table.read_bytes(), random.Random(0), [""]
    for _ in range(6):
        altered = bytearray(whole)
        for _ in range(3):
            altered[draw.randrange(128, len(altered))] = draw.randrange(256)
        table.write_bytes(altered)
        try:
            read_matlab(table, ("relative_im_path", "class"))
        except DataError as error:
            refusals.append(str(error))
    assert not any("\n" in refusal for refusal in refusals)


def test_a_small_file_cannot_give_much_text(tmp_path: Path) -> None:
    names = np.array(["\x01" * 1000] * 6_000)  # six characters each in JSON
    scipy_io.savemat(tmp_path / "m.mat", {"class_names": names}, do_compression=True)
    assert (tmp_path / "m.mat").stat().st_size < 1 << 20
    with pytest.raises(DataError, match=r"expected tables of at most 33,554,432 characters"):
        read_matlab(tmp_path / "m.mat", ())


def test_a_pipe_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "cars_annos.mat")
    with pytest.raises(DataError, match="expected a regular file, got a pipe"):
        read_matlab(tmp_path / "cars_annos.mat", ())

"""Python and C++ decode the same files to the same pixels, and refuse the same others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from image_corpus import Case, jpeg, png

from gsp_deploy.errors import DataError
from gsp_deploy.images.decoding import decode_image

from .native import Build

CONTAINERS = {"jpeg": jpeg.cases, "png": png.cases}
DAMAGED = 1500  # files of each container, besides


def in_python(file: Path) -> np.ndarray | str:
    """Return the pixels, or the error."""
    try:
        return np.asarray(decode_image(file))
    except DataError as error:
        return str(error)


def in_cpp(library: Build, files: list[Path], out: Path) -> list[np.ndarray | str]:
    """Return the pixels of each file, or the error."""
    out.mkdir()
    lines = library.lines("tests/probe", "pixels", out, *files)
    found: list[np.ndarray | str] = []
    for index, line in enumerate(lines):
        width, _, height = line.partition("x")
        if width.isdigit() and height.isdigit():
            pixels = np.fromfile(out / str(index), np.uint8)
            found.append(pixels.reshape(int(height), int(width), 3))
        else:
            found.append(line)
    assert len(found) == len(files)
    return found


def difference(python: np.ndarray | str, cpp: np.ndarray | str) -> str | None:
    """Return how the two disagree, or None."""
    if isinstance(python, str) or isinstance(cpp, str):
        if isinstance(python, str) and isinstance(cpp, str):
            return None
        return f"Python: {_verdict(python)}, C++: {_verdict(cpp)}"
    if python.shape != cpp.shape:
        return f"Python: {python.shape}, C++: {cpp.shape}"
    worst = int(np.abs(python.astype(int) - cpp.astype(int)).max())
    return None if worst == 0 else f"pixels are up to {worst} of 255 apart"


def written(cases: list[Case], folder: Path) -> list[Path]:
    """Write the files, each under its name."""
    assert len({case.name for case in cases}) == len(cases)
    for case in cases:
        (folder / case.name).write_bytes(case.content)
    return [folder / case.name for case in cases]


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("container", CONTAINERS)
def test_every_form_is_the_same_in_both(container: str, library: Build, tmp_path: Path) -> None:
    cases = list(CONTAINERS[container]())
    files = written(cases, tmp_path)
    wrong = {}
    for case, file, cpp in zip(cases, files, in_cpp(library, files, tmp_path / "out"), strict=True):
        python = in_python(file)
        if found := difference(python, cpp):
            wrong[case.name] = found
        elif case.taken is not None and case.taken == isinstance(python, str):
            wrong[case.name] = f"expected {'pixels' if case.taken else 'a refusal'}: {python!s:.90}"
    assert not wrong
    assert len(cases) > 500


@pytest.mark.parametrize("container", CONTAINERS)
def test_every_form_breaks_nothing(container: str, sanitized: Build, tmp_path: Path) -> None:
    """Under the address and undefined-behaviour sanitizers."""
    files = written(list(CONTAINERS[container]()), tmp_path)
    assert len(sanitized.lines("tests/probe", "image", *files)) == len(files)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("container", CONTAINERS)
def test_damage_is_the_same_in_both(container: str, library: Build, tmp_path: Path) -> None:
    """Bytes overwritten, removed and doubled at random, in files of every form."""
    draw = np.random.default_rng(0)
    sources = [case for case in CONTAINERS[container]() if 40 < len(case.content) < 5000]
    cases = []
    for index in range(DAMAGED):
        source = sources[int(draw.integers(len(sources)))]
        cases.append(Case(f"{index}-{source.name}", _damaged(source.content, draw)))
    files = written(cases, tmp_path)
    both = zip(files, in_cpp(library, files, tmp_path / "out"), strict=True)
    verdicts = {file.name: (in_python(file), cpp) for file, cpp in both}
    wrong = {name: found for name, pair in verdicts.items() if (found := difference(*pair))}
    assert not wrong
    refused = sum(isinstance(python, str) for python, _ in verdicts.values())
    assert DAMAGED * 0.1 < refused < DAMAGED * 0.9


def _damaged(content: bytes, draw: np.random.Generator) -> bytes:
    out = bytearray(content)
    for _ in range(int(draw.integers(1, 5))):
        place = int(draw.integers(2, len(out)))
        kind = int(draw.integers(0, 5))
        if kind == 0:
            del out[place : place + int(draw.integers(1, 9))]
        elif kind == 1:
            out[place:place] = out[place - 2 : place]
        else:
            out[place : place + 1] = bytes((int(draw.integers(0, 256)),))
    return bytes(out)


def _verdict(found: np.ndarray | str) -> str:
    return f"refused ({found.rpartition('(')[2]}" if isinstance(found, str) else "taken"

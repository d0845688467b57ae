"""JSON, hashes, arrays and half precision in C++, against Python's json, hashlib and numpy."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import subprocess
from pathlib import Path

import numpy as np
import pytest

from .native import Build

VALID = [
    "{}",
    " [ ] \n",
    '{"a": [1, -0, 2.5e-3, 1E+2, true, false, null], "b": {"c": "\\u00e9\\ud83d\\ude00\\n\\/"}}',
    '"\\"\\\\"',
    "0",
]
MALFORMED = [
    "", " ", "{", "[1,]", '{"a":1,}', "{'a':1}", '{"a" 1}', "01", "+1", "1.", ".5", "1e", "0x1",
    "NaN", "Infinity", "-", "1e999", "tru", "nulll", '"a', '"\\x"', '"\\u12"', '"\\ud800"',
    '"\\udc00\\ud800"', '"\t"', '{"a":1,"a":2}', "[1] 2", "{1:2}", "[" * 100 + "]" * 100, "\x00",
    "// a\n1", "[1 2]",
]  # fmt: skip


def verdicts(library: Build, texts: list[str], folder: Path) -> list[bool]:
    files = []
    for index, text in enumerate(texts):
        files.append(folder / f"{index}.json")
        files[-1].write_text(text, encoding="utf-8")
    return [line == "ok" for line in library.lines("tests/probe", "json", *files)]


def test_what_is_json_and_what_is_not(sanitized: Build, tmp_path: Path) -> None:
    found = verdicts(sanitized, VALID + MALFORMED, tmp_path)
    assert found == [True] * len(VALID) + [False] * len(MALFORMED)


def test_mutated_manifests_are_judged_as_python_judges_them(
    sanitized: Build, bundle: Path, tmp_path: Path
) -> None:
    """Single characters deleted, doubled or replaced; Python's json is the oracle."""
    source = json.dumps(json.loads((bundle / "bundle.json").read_text()))
    draw = np.random.default_rng(0)
    alphabet = '{}[],:"\\-+.eE0129 ntf\n\x01u'
    texts = []
    for _ in range(500):
        text = source
        for _ in range(int(draw.integers(1, 4))):
            place = int(draw.integers(0, len(text)))
            kind = draw.integers(0, 3)
            inserted = text[place] * 2 if kind == 1 else alphabet[draw.integers(0, len(alphabet))]
            text = text[:place] + ("" if kind == 0 else inserted) + text[place + 1 :]
        texts.append(text)
    expected = [strictly_json(text) for text in texts]
    assert verdicts(sanitized, texts, tmp_path) == expected
    assert 50 < sum(expected) < 450


def strictly_json(text: str) -> bool:
    def refuse(word: object) -> None:
        raise ValueError(word)

    def once(pairs: list[tuple[str, object]]) -> dict[str, object]:
        made = dict(pairs)
        if len(made) != len(pairs):
            raise ValueError("twice")
        return made

    try:
        json.loads(text, parse_constant=refuse, object_pairs_hook=once, parse_float=finite)
    except ValueError:
        return False
    return True


def finite(text: str) -> float:
    if not np.isfinite(float(text)):
        raise ValueError(text)
    return float(text)


def test_a_long_key_does_not_fill_the_memory(library: Build, tmp_path: Path) -> None:
    """Each of many values remembers its place, but not all of a place without end."""
    text = json.dumps({"k" * 400_000: [0] * 100_000})
    (tmp_path / "long.json").write_text(text)
    limit = 1 << 30  # bytes; 40 GB would go into the places if they were whole
    done = subprocess.run(
        [library.folder / "tests/probe", "json", tmp_path / "long.json"],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)),
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "ok\n"), done.stderr


ARRAYS = {
    "a matrix": np.arange(12, dtype="<f4").reshape(3, 4),
    "pixels": np.arange(150, dtype="u1").reshape(2, 5, 5, 3),
    "no rows": np.zeros((0, 4), "<f4"),
    "a number": np.float32(7),
    "a row": np.arange(5, dtype="<f4"),
}
FOREIGN = {
    "columns first": (np.ones((4, 3), "<f4", order="F"), "C order"),
    "big endian": (np.ones(3, ">f4"), "elements"),
    "doubles": (np.ones(3), "elements"),
    "text": (np.array(["a", "b"]), "elements"),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_are_numpys(name: str, sanitized: Build, tmp_path: Path) -> None:
    array = np.asarray(ARRAYS[name])
    np.save(tmp_path / "a.npy", array)
    (line,) = sanitized.lines("tests/probe", "npy", tmp_path / "a.npy")
    *shape, word, total = line.split()
    assert (tuple(map(int, shape)), word, float(total)) == (array.shape, "sum", array.sum())


@pytest.mark.parametrize("name", FOREIGN)
def test_other_arrays_are_refused(name: str, sanitized: Build, tmp_path: Path) -> None:
    array, expected = FOREIGN[name]
    np.save(tmp_path / "a.npy", array.astype("u1") if expected == "C order" else array)
    (line,) = sanitized.lines("tests/probe", "npy", tmp_path / "a.npy")
    assert f"not the array it should be, expected {expected}" in line


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ("(4294967296, 4294967296)", "as many values as its shape says"),
        ("(4294967297, 1)", "smaller sizes"),
        ("(2, 2)", "as many values as its shape says"),
    ],
)
def test_a_shape_that_the_file_does_not_hold(
    shape: str, expected: str, sanitized: Build, tmp_path: Path
) -> None:
    header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    content = b"\x93NUMPY\x01\0" + len(header).to_bytes(2, "little") + header + b"abc"
    (tmp_path / "a.npy").write_bytes(content)
    (line,) = sanitized.lines("tests/probe", "npy", tmp_path / "a.npy")
    assert f"expected {expected}" in line


def test_a_pipe_keeps_nobody_waiting(library: Build, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for reader in ("npy", "image"):
        (line,) = library.lines("tests/probe", reader, tmp_path / "pipe")
        assert "cannot be read" in line


@pytest.mark.parametrize(
    "size", [0, 1, 55, 56, 63, 64, 65, 119, 120, (1 << 20) - 1, 1 << 20, 2**20 + 57]
)
def test_sha256(size: int, library: Build, tmp_path: Path) -> None:
    content = np.random.default_rng(size).bytes(size)
    (tmp_path / "f").write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    assert library.lines("tests/probe", "sha256", tmp_path / "f") == [digest]


def test_every_half_and_its_way_back(sanitized: Build) -> None:
    lines = [line.split() for line in sanitized.lines("tests/probe", "half")]
    values = np.array([float(value) for value, _ in lines], np.float32)
    back = np.array([int(bits) for _, bits in lines], np.uint16).view(np.float16)
    every = np.arange(65536, dtype=np.uint16).view(np.float16)
    np.testing.assert_array_equal(values[:65536], every.astype(np.float32))
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(back, values.astype(np.float16))

"""A deployment install: numpy and one runtime, nothing else; and the names that stay."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch

import gsp_deploy.runtime
from gsp_deploy import open_session
from gsp_deploy.errors import UsageError

# What each runtime's own wheel asks for.
ALLOWED = {
    "onnxruntime": ("gsp_deploy", "numpy", "onnxruntime", "flatbuffers", "google", "packaging"),
    "openvino": ("gsp_deploy", "numpy", "openvino", "openvino_telemetry"),
}

ABSENT = """
import importlib.abc, sys

class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        top = name.partition(".")[0]
        if top not in sys.stdlib_module_names and top not in ALLOWED:
            asked.add(top)
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

ALLOWED, asked = MINE, set()
sys.meta_path.insert(0, Absent())
"""
EMBED = """
import numpy
from gsp_deploy.runtime import open_session
assert not {"onnxruntime", "openvino"} & set(sys.modules)
with open_session(sys.argv[1], threads=1, runtime=sys.argv[2]) as session:
    pixels = numpy.arange(2 * 32 * 32 * 3, dtype=numpy.uint32).astype(numpy.uint8)
    print(session.embed(pixels.reshape(2, 32, 32, 3)).tobytes().hex())
"""
TELL = "print(*sorted(asked))"


def python(script: str, *arguments: str) -> list[str]:
    command = [sys.executable, "-c", script, *arguments]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.splitlines()


@pytest.mark.parametrize("runtime", ALLOWED)
def test_numpy_and_one_runtime_are_enough(runtime: str, tiny_export: str) -> None:
    absent = ABSENT.replace("MINE", repr(ALLOWED[runtime]))
    embeddings, asked = python(absent + EMBED + TELL, tiny_export, runtime)
    # The standard library, numpy and the runtime look for more, and do without it.
    (by_others,) = python(absent + f"import copy, numpy, {runtime}\n" + TELL)
    assert set(asked.split()) <= set(by_others.split())
    pixels = np.arange(2 * 32 * 32 * 3, dtype=np.uint32).astype(np.uint8)
    with open_session(tiny_export, threads=1, runtime=runtime) as session:
        expected = session.embed(pixels.reshape(2, 32, 32, 3))
    assert bytes.fromhex(embeddings) == expected.tobytes()


def test_importing_brings_numpy_alone() -> None:
    script = (
        "import sys, gsp_deploy.runtime\n"
        "tops = {name.partition('.')[0] for name in sys.modules}\n"
        "print(*sorted(tops - set(sys.stdlib_module_names) - {'__main__'}))"
    )
    found = {name for name in python(script)[0].split() if not name.startswith("_")}
    bare = set(python(script.replace("gsp_deploy.runtime", "numpy"))[0].split())
    assert found - bare == {"gsp_deploy"}


def test_the_stable_names_are_there() -> None:
    assert {"EmbeddingSession", "SessionInfo", "SessionOptions", "open_session"} <= set(
        gsp_deploy.runtime.__all__
    )
    for name in gsp_deploy.runtime.__all__:
        assert getattr(gsp_deploy.runtime, name).__doc__


def test_arrays_of_other_libraries_are_embedded_where_they_lie(tiny_export: str) -> None:
    images = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with open_session(tiny_export) as session:
        expected = session.embed(images.numpy())
        for array in (images, images.numpy()):
            found = session.embed_dlpack(array)
            shared = torch.from_dlpack(found)
            assert shared.data_ptr() == found.data_ptr()
            np.testing.assert_array_equal(shared.numpy(), expected)


@pytest.mark.parametrize(
    ("array", "named"),
    [
        (torch.zeros(1, 3, 32, 32, dtype=torch.float16), "expected images of float32, got float16"),
        (torch.zeros(1, 3, 31, 32), r"shape \(batch, 3, 32, 32\)"),
        (torch.zeros(1, 32, 32, 3).permute(0, 3, 1, 2), "dense array"),
        ([[1.0]], "speaks DLPack, got list"),
    ],
)
def test_arrays_that_do_not_fit(array, named, tiny_export: str) -> None:
    with open_session(tiny_export) as session, pytest.raises(UsageError, match=named):
        session.embed_dlpack(array)


def test_a_closed_session_is_told(tiny_export: str) -> None:
    session = open_session(tiny_export)
    session.close()
    with pytest.raises(UsageError, match="closed"):
        session.embed_dlpack(torch.zeros(1, 3, 32, 32))

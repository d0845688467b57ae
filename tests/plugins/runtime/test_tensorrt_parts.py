"""Parts of the C++ TensorRT backend on doubles of CUDA: its profiles, and whose GPU is current."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from native_headers import cuda_headers

from gsp_deploy.runtime.batching import InputProfile, plan_chunks

from .native import SOURCE, lacking, run_quietly

DRIVER = """
extern "C" int cuDevicePrimaryCtxGetState(int device, unsigned int* flags, int* active) {
  *flags = 0;
  *active = device == ACTIVE;
  return 0;
}
"""
Run = Callable[..., list[str]]


@pytest.fixture(scope="module")
def parts(tmp_path_factory) -> Run:
    """Return a function that runs the program on a driver with a context on GPU 0, or on none."""
    cuda = cuda_headers()
    if cuda is None or shutil.which("g++") is None:
        lacking("g++ and CUDA's headers")
    folder = tmp_path_factory.mktemp("parts")
    compile_ = ("g++", "-std=c++17", "-O1", "-Wall", "-Wextra")
    program, here = folder / "parts", Path(__file__).parent
    includes = (f"-I{SOURCE / 'src'}", f"-I{SOURCE / 'include'}", "-isystem", cuda)
    sources = (here / "tensorrt_parts.cpp", SOURCE / "src/tensorrt_profiles.cpp")
    sources += (SOURCE / "src/error.cpp",)
    run_quietly(*compile_, *includes, *sources, "-o", program, "-ldl")
    for name, active in (("used", 0), ("unused", -1)):
        source, target = folder / f"{name}.cpp", folder / name / "libcuda.so.1"
        source.write_text(DRIVER.replace("ACTIVE", str(active)))
        target.parent.mkdir()
        run_quietly(*compile_, "-shared", "-fPIC", source, "-o", target)

    def run(*words: object, driver: str = "used") -> list[str]:
        environment = {**os.environ, "LD_LIBRARY_PATH": str(folder / driver)}
        command = [str(program), *map(str, words)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        return done.stdout.splitlines()

    return run


ranges = st.lists(st.integers(1, 20), min_size=3, max_size=3).map(sorted)


@settings(deadline=None, max_examples=40)
@given(batches=st.lists(ranges, min_size=1, max_size=4), count=st.integers(1, 20))
def test_a_batch_takes_the_profile_that_python_takes(batches, count: int, parts: Run) -> None:
    count = min(count, max(high for *_, high in batches))
    profiles = [InputProfile((low, 3), (best, 3), (high, 3)) for low, best, high in batches]
    words = [word for low, best, high in batches for word in (low, best, high, 0)]
    (line,) = parts("profiles", count, *words)
    index, batch, room, least, most = map(int, line.split())
    chunks = [plan_chunks(profiles, images, (3,), 20)[0] for images in range(1, count + 1)]
    assert (index, batch) == (chunks[-1].profile, chunks[-1].batch)
    assert room == max(count, *(chunk.batch for chunk in chunks))
    assert least == min(low for low, *_ in batches)
    assert most == max(high for *_, high in batches)


def test_the_size_of_the_images_decides_between_equal_batches(parts: Run) -> None:
    assert parts("profiles", 4, 1, 4, 8, 0.7, 1, 4, 8, 0.1)[0].startswith("1 4 ")


@pytest.mark.parametrize(
    ("before", "wanted", "driver", "calls"),
    [
        (0, 0, "unused", ["work", "now 0"]),
        (0, 1, "used", ["set 1", "work", "set 0", "now 0"]),
        (0, 1, "unused", ["set 1", "work", "now 1"]),  # no context on GPU 0 for nothing
    ],
)
def test_another_gpu_is_made_current_only_where_it_is_used(
    before: int, wanted: int, driver: str, calls: list[str], parts: Run
) -> None:
    assert parts("device", before, wanted, driver=driver) == calls

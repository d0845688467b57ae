"""The libFuzzer harnesses, for a short while each, from the seeds that they start from."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from .native import SOURCE, Build, build

PARSERS = ("decode", "orientation", "json", "npy", "bundle", "unsigned")
RUNS = 3000
# libFuzzer's own limit takes the peak of the process that started it for this one's.
MEMORY = {"ASAN_OPTIONS": "hard_rss_limit_mb=2048"}


@pytest.fixture(scope="module")
def harnesses(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """The harnesses, by clang."""
    clang = shutil.which("clang++")
    if clang is None:
        pytest.skip("needs clang++, with libFuzzer")
    folder = tmp_path_factory.mktemp("fuzz")
    probe = folder / "probe.cpp"
    probe.write_text('extern "C" int LLVMFuzzerTestOneInput(const char*, long) { return 0; }')
    tried = [clang, "-fsanitize=fuzzer,address", str(probe), "-o", str(folder / "probe")]
    if subprocess.run(tried, capture_output=True, check=False).returncode:
        pytest.skip("needs a clang++ with libFuzzer, which Debian has in libclang-rt-dev")
    options = (f"-DCMAKE_CXX_COMPILER={clang}", "-DGSP_RUNTIME_FUZZ=ON")
    targets = [f"gsp_fuzz_{parser}" for parser in PARSERS]
    return build(folder / "build", *options, targets=targets)


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of seeds for each harness."""
    folder = tmp_path_factory.mktemp("seeds")
    command = [sys.executable, str(SOURCE / "fuzz" / "seeds.py"), str(folder)]
    subprocess.run(command, check=True)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("parser", PARSERS)
def test_nothing_breaks(parser: str, harnesses: Build, seeds: Path, tmp_path: Path) -> None:
    done = harnesses.run(
        f"fuzz/fuzz_{parser}", f"-runs={RUNS}", "-seed=1", "-max_len=8192",
        f"-artifact_prefix={tmp_path}/", "-rss_limit_mb=0", tmp_path, seeds / parser,
        **MEMORY,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    assert f"Done {RUNS} runs" in done.stderr

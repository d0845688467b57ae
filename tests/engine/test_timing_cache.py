"""The timing cache, on a double of the builder: made, reused, set aside if it is foreign."""

from __future__ import annotations

from pathlib import Path

import pytest
from builder_double import FOREIGN, Config, job_of, tensorrt_double

from gsp_deploy.engine.api import TensorRT
from gsp_deploy.engine.log import make_log
from gsp_deploy.engine.options import BuildOptions
from gsp_deploy.engine.retries import build_plan
from gsp_deploy.engine.timing_cache import attach_timing_cache
from gsp_deploy.errors import GspDeployError


def build(path: Path) -> list[str]:
    lines: list[str] = []
    job, _ = job_of(lambda config: b"plan", lines, BuildOptions(timing_cache=path))
    build_plan(job, ("8.7",), may_narrow=False)
    return lines


def test_the_cache_is_made_then_used_and_extended(tmp_path: Path) -> None:
    path = tmp_path / "timings"
    assert build(path) == []
    assert path.read_bytes() == b"+timings"
    assert build(path) == []
    assert path.read_bytes() == b"+timings+timings"


def test_a_foreign_one_is_set_aside_with_a_word(tmp_path: Path) -> None:
    path = tmp_path / "timings"
    path.write_bytes(FOREIGN)
    (line,) = build(path)
    assert "another device or version" in line
    assert (tmp_path / "timings.aside").read_bytes() == FOREIGN
    assert path.read_bytes() == b"+timings"


def test_a_warning_of_the_cache_counts_as_foreign(tmp_path: Path) -> None:
    """TensorRT-RTX really answers garbage with an empty cache and a warning."""
    path, tensorrt, lines = tmp_path / "timings", tensorrt_double(), []
    path.write_bytes(b"garbage")
    log = make_log(tensorrt)

    class Forgetful(Config):
        def create_timing_cache(self, data: bytes):
            if data:
                log.log(2, "Failed to deserialize timing cache. Returning an empty timing cache.")
            return super().create_timing_cache(b"")

    assert attach_timing_cache(tensorrt, Forgetful(), path, log, lines.append)
    assert len(lines) == 1
    assert not path.exists()


def test_a_build_that_fails_leaves_the_cache_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "timings"
    path.write_bytes(b"known")
    job, _ = job_of(lambda config: "Error (no)", [], BuildOptions(timing_cache=path))
    with pytest.raises(GspDeployError):
        build_plan(job, ("8.7",), may_narrow=False)
    assert path.read_bytes() == b"known"


def test_one_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "timings"
    path.write_bytes(b"known")

    def refuse(self: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(GspDeployError, match="the timing cache cannot be read"):
        build(path)


def test_tensorrt_rtx_needs_none_and_says_so(rtx: TensorRT, tmp_path: Path) -> None:
    lines: list[str] = []
    path = tmp_path / "timings"
    assert not attach_timing_cache(rtx, None, path, make_log(rtx), lines.append)
    assert "times no kernels" in lines[0]
    assert not path.exists()

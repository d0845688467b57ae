"""The ladder of smaller efforts, on a double of the builder that runs out of memory."""

from __future__ import annotations

import pytest
from builder_double import Config, job_of, one_after_another, tensorrt_double

from gsp_deploy.engine.memory import (
    Effort,
    is_cramped,
    is_out_of_memory,
    ladder,
    peak_memory,
)
from gsp_deploy.engine.options import BuildOptions
from gsp_deploy.engine.retries import build_plan
from gsp_deploy.errors import GspDeployError, MissingCapabilityError

MIB = 1 << 20
EXHAUSTED = (
    "IBuilder::buildSerializedNetwork: Error Code 2: OutOfMemory (Requested size was 1073741824 "
    "bytes. In allocate at /src/allocator.cpp:55)"
)
# The words of TensorRT 8 to 11.
OUT_OF_MEMORY = (
    EXHAUSTED,
    "Error Code 1: Cuda Runtime (out of memory)",
    "Requested amount of GPU memory (8388608 bytes) could not be allocated.",
    "Skipping tactic 0x3 due to insufficient memory on requested size of 4194304 detected",
    "std::bad_alloc",
)


@pytest.mark.parametrize("message", OUT_OF_MEMORY)
def test_a_want_of_memory_is_recognised(message: str) -> None:
    assert is_out_of_memory(["something else", message])
    assert not is_cramped([message])


def test_other_failures_are_not() -> None:
    assert not is_out_of_memory(["Error Code 4: API Usage Error (no optimization profile)"])
    assert is_cramped(["no tactics to implement the operation within workspace limit"])


def test_each_rung_asks_for_less() -> None:
    rungs = ladder(BuildOptions(), tensorrt_double())
    assert rungs[0] == Effort()
    sizes = [rung.workspace for rung in rungs[1:]]
    levels = [rung.optimization_level for rung in rungs[1:]]
    tactics = [rung.tactics for rung in rungs[1:]]
    for falling in (sizes, levels, tactics):
        assert falling == sorted(falling, reverse=True)
        assert len(set(falling)) == len(falling)
    assert [rung.weight_streaming for rung in rungs] == [False, False, False, True]


def test_no_rung_asks_for_more_than_was_asked_for() -> None:
    asked = BuildOptions(workspace=100 * MIB, optimization_level=1)
    for rung in ladder(asked, tensorrt_double()):
        assert rung.workspace is not None
        assert rung.workspace <= 100 * MIB
        assert rung.optimization_level is not None
        assert rung.optimization_level <= 1


def test_low_memory_starts_below() -> None:
    patient, eager = (
        ladder(BuildOptions(low_memory=low), tensorrt_double()) for low in (True, False)
    )
    assert patient == eager[1:]


def test_a_version_without_a_limit_of_tactics_is_not_given_one() -> None:
    old = type("Config", (), {})
    assert all(rung.tactics is None for rung in ladder(BuildOptions(), tensorrt_double(old)))


def test_the_first_effort_that_fits_is_taken() -> None:
    lines: list[str] = []

    def outcome(config: Config) -> bytes | str:
        return b"plan" if config.workspace == 128 * MIB else EXHAUSTED

    job, builder = job_of(outcome, lines)
    plan = build_plan(job, ("8.7",), may_narrow=False)
    assert plan.data == b"plan"
    assert plan.effort == Effort(128 * MIB, 1, 4)
    assert [c.workspace for c in builder.configs] == [None, 256 * MIB, 128 * MIB]
    assert [c.builder_optimization_level for c in builder.configs] == [None, 2, 1]
    assert [c.max_num_tactics for c in builder.configs] == [None, 16, 4]
    assert len(lines) == 2
    assert lines[0] == (
        "out of memory with TensorRT's own settings; trying again with workspace 256 MiB, "
        "optimisation level 2, at most 16 tactics a layer"
    )


def test_the_last_rung_streams_weights_and_then_it_gives_up() -> None:
    lines: list[str] = []
    job, builder = job_of(lambda config: EXHAUSTED, lines)
    with pytest.raises(GspDeployError) as caught:
        build_plan(job, ("8.7",), may_narrow=False)
    assert "WEIGHT_STREAMING" in builder.configs[-1].flags
    assert len(builder.configs) == 4
    message = str(caught.value)
    assert message.startswith("model.onnx: TensorRT 10.3.0 cannot build it: Requested size was")
    assert "the least there is" in message
    assert "\n" not in message


def test_a_failure_of_another_kind_is_not_tried_again() -> None:
    lines: list[str] = []
    job, builder = job_of(one_after_another("Error Code 9: Internal Error (no idea)"), lines)
    with pytest.raises(GspDeployError, match=r"cannot build it: no idea$"):
        build_plan(job, ("8.7",), may_narrow=False)
    assert len(builder.configs) == 1


def test_tf32_is_off_unless_asked_for() -> None:
    for tf32 in (False, True):
        job, builder = job_of(lambda config: b"plan", [], BuildOptions(tf32=tf32))
        build_plan(job, ("8.7",), may_narrow=False)
        assert ("TF32" in builder.configs[0].flags) is tf32


def test_flags_reach_the_builder() -> None:
    options = BuildOptions(refit=True, strip_weights=True, version_compatible=True)
    job, builder = job_of(lambda config: b"plan", [], options)
    build_plan(job, ("8.7",), may_narrow=False)
    assert builder.configs[0].flags == {"REFIT", "STRIP_PLAN", "VERSION_COMPATIBLE"}


def test_hardware_compatibility_that_a_version_lacks_is_refused() -> None:
    options = BuildOptions(hardware_compatibility="ampere+")
    job, builder = job_of(lambda config: b"plan", [], options)
    build_plan(job, ("8.7",), may_narrow=False)
    assert builder.configs[0].hardware_compatibility_level == "AMPERE_PLUS"
    job, _ = job_of(lambda c: b"", [], BuildOptions(hardware_compatibility="same-capability"))
    with pytest.raises(MissingCapabilityError, match="no hardware compatibility same-capability"):
        build_plan(job, ("8.7",), may_narrow=False)


def test_peak_memory_is_this_blocks_own() -> None:
    size = 256 * MIB
    with peak_memory() as large:
        block = bytearray(size)
        block[::4096] = b"x" * len(block[::4096])
    del block
    with peak_memory() as small:
        pass
    assert large.bytes >= size
    assert large.bytes - small.bytes > size // 2


def test_peak_memory_if_the_system_does_not_report_it(tmp_path) -> None:
    with peak_memory(tmp_path) as peak:
        pass
    assert peak.bytes == 0

"""Points, front and choice: arithmetic by hand, and the properties of a Pareto front."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gsp_deploy import GSPConfig, ModelConfig, PreprocessingSpec
from gsp_deploy.config import BaselineConfig
from gsp_deploy.errors import GateError, UsageError
from gsp_deploy.tuning import Candidate, Limits, Point, TuningSpace, choose
from gsp_deploy.tuning.front import front_of, points_of
from gsp_deploy.tuning.space import reference_of
from gsp_deploy.tuning.study import Quality, Speed, Study


def point(latency: float | None, score: float, batch: int = 1) -> Point:
    candidate = Candidate("fp32", None, 64)
    return Point(candidate, 2, batch, score, score, 50 - score, None, latency)


POINTS = (point(10, 50), point(5, 49.5), point(4, 45), point(6, 48), point(20, 49.8, batch=8))


def config(head: GSPConfig | BaselineConfig | None = None) -> ModelConfig:
    return ModelConfig("resnet18", head or GSPConfig(512), PreprocessingSpec(112, 224))


def test_the_space_is_every_combination_after_the_reference():
    space = TuningSpace(("fp32", "int8"), (1, None, 4), (112, 96))
    found = list(space.candidates(config()))
    assert found[0] == reference_of(config()) == Candidate("fp32", None, 112)
    assert len(found) == len(set(found)) == 2 * 3 * 2
    assert [c.steps for c in found[:3]] == [None, 1, 4]
    assert found[-1].preprocessing(PreprocessingSpec(112, 224)).width == 192
    assert found[-1].name == "int8-96px-4"


def test_the_reference_is_tried_even_when_it_is_not_asked_for():
    found = list(TuningSpace(("int8",), (2,), (64,)).candidates(config()))
    assert [c.name for c in found] == ["fp32-112px-certified", "int8-64px-2"]


@pytest.mark.parametrize(
    "head", [BaselineConfig(512), GSPConfig(512, transport_ratio=1)], ids=["baseline", "mu = 1"]
)
def test_a_head_without_a_solver_has_no_steps_to_try(head):
    found = list(TuningSpace(("fp32", "fp16"), (None, 1, 2)).candidates(config(head)))
    assert {c.steps for c in found} == {None}
    assert [c.size for c in found] == [112, 112, 96, 96, 80, 80]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((("fp8",),), "precision must be one of fp32, fp16, bf16, int8, got 'fp8'"),
        ((("fp32",), (0,)), "steps must be at least 1, got [0]"),
        ((("fp32",), (None,), (0,)), "size must be at least 1"),
        ((("fp32", "fp32"),), "expected different values"),
        (((),), "at least one precision"),
    ],
)
def test_a_wrong_space_is_refused(arguments, said):
    with pytest.raises(UsageError) as caught:
        TuningSpace(*arguments)
    assert said in str(caught.value)


def test_a_head_alone_is_refused():
    with pytest.raises(UsageError, match="takes features"):
        reference_of(ModelConfig("features", GSPConfig(8), None))


def test_latency_is_the_ratio_times_the_references_pace():
    """A machine that got twice as slow between two measurements favours no candidate."""
    study = Study(Path("x"), {})
    candidates = [Candidate("fp32", None, 64), Candidate("int8", None, 64)]
    for candidate, score in zip(candidates, (50.0, 49.0), strict=True):
        study.qualities[candidate.name] = Quality("", 2, score, score, False)
    study.speeds = {
        candidates[0].name: {1: Speed(1.0, 0.9, 1.1, 10)},
        candidates[1].name: {
            1: Speed(0.5, 0.4, 0.6, 20)
        },  # half the reference's time, while the machine was slow
    }
    first, second = points_of(study, candidates, (1,))
    assert (first.speed.ratio, first.latency_ms, first.drop) == (1, 15, 0)
    assert (second.speed.ratio, second.latency_ms, second.drop) == (0.5, 7.5, 1)
    assert second.images_per_second == pytest.approx(1000 / 7.5)


def test_the_front_of_a_few():
    assert front_of(POINTS) == (POINTS[2], POINTS[1], POINTS[0], POINTS[4])


timed = st.tuples(st.floats(0.1, 100), st.floats(0, 100), st.sampled_from([1, 8]))


@given(st.lists(timed, min_size=1, max_size=20))
def test_nothing_beats_the_front_and_the_front_beats_the_rest(values):
    points = [point(*value) for value in values]
    front = front_of([*points, point(None, 99)])

    def beats(one: Point, other: Point) -> bool:
        no_worse = one.latency_ms <= other.latency_ms and one.map_at_r >= other.map_at_r
        return one.batch == other.batch and no_worse and one != other

    assert not any(beats(one, other) for one in points for other in front)
    assert all(any(beats(one, other) for one in front) for other in set(points) - set(front))


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        (Limits(max_latency=30), 0),  # the most accurate
        (Limits(max_latency=9), 1),
        (Limits(max_latency=5.5, max_drop=3), 1),
        (Limits(max_drop=1), 4),  # the most images per second
        (Limits(max_drop=0), 0),
    ],
)
def test_the_choice(limits, expected):
    assert choose(POINTS, limits) == POINTS[expected]


def test_of_equals_the_one_with_more_images_per_second_is_chosen():
    slow, fast = point(8, 50), point(20, 50, batch=8)
    assert choose([slow, fast], Limits(max_latency=30)) == fast


def test_if_nothing_is_within_the_limits_the_gate_fails_and_names_the_closest():
    with pytest.raises(GateError) as caught:
        choose((*POINTS, point(None, 50)), Limits(max_latency=4.5, max_drop=0.6))
    assert caught.value.exit_code == 3
    assert "within 4.5 ms and 0.6 points of MAP@R" in str(caught.value)
    assert "accurate enough takes 5 ms" in str(caught.value)
    assert "fast enough loses 5 points" in str(caught.value)


@pytest.mark.parametrize("limits", [(0, None), (float("nan"), None), (None, -1), (None, 100.1)])
def test_a_limit_outside_its_domain_is_refused(limits):
    with pytest.raises(UsageError, match="allowed must be"):
        Limits(*limits)

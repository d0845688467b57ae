"""What a server takes on: places, bytes, and what Retry-After says when there are none."""

from __future__ import annotations

import pytest

from gsp_deploy.errors import RequestError
from gsp_deploy.serving import ServingSettings
from gsp_deploy.serving.limits import LONGEST_RETRY, Admission
from gsp_deploy.serving.metrics import Metrics


@pytest.fixture
def admission() -> Admission:
    return Admission(ServingSettings(max_batch=1, queue_limit=100), Metrics())


def retry_after(admission: Admission) -> int | None:
    """Return what a request gets that does not fit."""
    with pytest.raises(RequestError) as caught, admission.accept(100):
        pass
    assert caught.value.status == 503
    return caught.value.retry_after


def test_retry_after_is_the_time_that_the_waiting_images_take(admission) -> None:
    admission.learn(10, 2.0)
    with admission.accept(20):
        assert retry_after(admission) == 4
        with admission.accept(30):
            assert retry_after(admission) == 10


def test_retry_after_learns_from_later_batches(admission) -> None:
    admission.learn(1, 1.0)
    admission.learn(2, 3.9)
    with admission.accept(10):
        assert retry_after(admission) == 12  # 10 x (0.8 x 1 + 0.2 x 1.95), rounded up
        for _ in range(100):
            admission.learn(1, 0.3)
        assert retry_after(admission) == 4  # and in the end what is measured, rounded up


def test_retry_after_is_at_least_a_second(admission) -> None:
    with admission.accept(1):
        assert retry_after(admission) == 1  # before anything was learnt
        admission.learn(1, 0.001)
        assert retry_after(admission) == 1


def test_retry_after_is_at_most_a_minute(admission) -> None:
    with admission.accept(10):
        admission.learn(1, 5.9)
        assert retry_after(admission) == 59
        admission.learn(1, 1000.0)
        assert retry_after(admission) == LONGEST_RETRY == 60


def test_places_are_given_back(admission) -> None:
    with pytest.raises(ZeroDivisionError), admission.accept(100):
        1 / 0  # noqa: B018
    with admission.accept(100):
        assert admission.images == 100
    assert admission.images == 0

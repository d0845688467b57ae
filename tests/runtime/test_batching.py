"""Chunks and profiles: every image once, within what the engine admits, with the least padding."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gsp_deploy.errors import UsageError
from gsp_deploy.runtime.batching import InputProfile, batch_steps, largest_batch, plan_chunks


def profile(low: int, best: int, high: int, size: tuple[int, int, int] = (8, 8, 8)) -> InputProfile:
    return InputProfile((low, 3, size[0]), (best, 3, size[1]), (high, 3, size[2]))


SIZES = (3, 8)


@pytest.mark.parametrize(
    ("profiles", "count", "max_batch", "expected"),
    [
        ([profile(1, 4, 8)], 5, 64, [(0, 5, 5, 0)]),
        ([profile(1, 4, 8)], 19, 64, [(0, 8, 8, 0), (8, 8, 8, 0), (16, 3, 3, 0)]),
        ([profile(1, 4, 8)], 5, 2, [(0, 2, 2, 0), (2, 2, 2, 0), (4, 1, 1, 0)]),
        ([profile(4, 4, 4)], 6, 64, [(0, 4, 4, 0), (4, 2, 4, 0)]),
        ([profile(4, 4, 8)], 1, 2, [(0, 1, 4, 0)]),
        ([profile(1, 1, 1), profile(2, 8, 8)], 9, 64, [(0, 8, 8, 1), (8, 1, 1, 0)]),
        ([profile(1, 8, 8), profile(1, 2, 8)], 3, 64, [(0, 3, 3, 1)]),
        ([profile(1, 4, 8)], 0, 64, [(0, 0, 1, 0)]),
        ([profile(1, 4, 8, (8, 8, 8)), profile(1, 4, 9, (6, 9, 16))], 9, 64, [(0, 9, 9, 1)]),
    ],
)
def test_chunks(profiles, count, max_batch, expected) -> None:
    found = plan_chunks(profiles, count, SIZES, max_batch)
    assert [(c.start, max(c.count, 0), c.batch, c.profile) for c in found] == expected


@pytest.mark.parametrize(
    ("profiles", "count", "padded"),
    [
        ([profile(1, 4, 32)], 5, 8),
        ([profile(1, 4, 32)], 17, 24),
        ([profile(1, 4, 32)], 1, 1),
        ([profile(1, 4, 6)], 5, 5),  # the profile takes no 8
        ([profile(3, 4, 32)], 1, 4),
        ([profile(1, 1, 1), profile(2, 8, 32)], 3, 4),
    ],
)
def test_batches_are_padded_to_a_few_sizes(profiles, count, padded) -> None:
    (found,) = plan_chunks(profiles, count, SIZES, 24, batch_steps(24))
    assert (found.count, found.batch) == (count, padded)


@pytest.mark.parametrize(
    ("most", "steps"), [(1, (1,)), (2, (1, 2)), (3, (1, 2, 3)), (8, (1, 2, 4, 8))]
)
def test_steps_are_powers_of_two_and_the_most(most: int, steps: tuple[int, ...]) -> None:
    assert batch_steps(most) == steps


def test_sizes_that_no_profile_takes_are_told_with_those_that_are() -> None:
    profiles = [profile(1, 4, 8, (4, 8, 16)), profile(1, 1, 2, (32, 32, 32))]
    with pytest.raises(UsageError, match=r"1:4:8x3x4:8:16, 1:1:2x3x32 .min:opt:max., got .* 3x20"):
        plan_chunks(profiles, 1, (3, 20), 64)


batch_ranges = st.lists(st.integers(1, 20), min_size=3, max_size=3).map(sorted)


@given(
    ranges=st.lists(batch_ranges, min_size=1, max_size=4),
    count=st.integers(0, 70),
    max_batch=st.integers(1, 30),
)
def test_every_image_goes_through_once_within_a_profile(ranges, count, max_batch) -> None:
    profiles = [profile(*three) for three in ranges]
    chunks = plan_chunks(profiles, count, SIZES, max_batch)
    covered = [i for c in chunks for i in range(c.start, c.start + c.count)]
    assert covered == list(range(count))
    for chunk in chunks:
        chosen = profiles[chunk.profile]
        assert chosen.minimum[0] <= chunk.batch <= chosen.maximum[0]
        assert chunk.count <= largest_batch(profiles, SIZES, max_batch) <= max_batch
        padding = chunk.batch - chunk.count
        least = min(
            max(p.minimum[0], chunk.count) - chunk.count
            for p in profiles
            if p.maximum[0] >= chunk.count
        )
        assert padding == least or count == 0

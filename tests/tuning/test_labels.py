"""Labels: they are next to their points, and apart from each other if there is room."""

from __future__ import annotations

from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from gsp_deploy.tuning.labels import Box, place_labels

FRAME = Box(0, 0, 1000, 1000)
spots = st.tuples(st.floats(0, 1000), st.floats(0, 1000))


def test_a_single_label_is_on_the_right_and_at_the_edge_on_the_left() -> None:
    (middle,) = place_labels([(500, 500)], [(100, 20)], FRAME, 10)
    assert middle == Box(510, 490, 610, 510)
    (edge,) = place_labels([(990, 500)], [(100, 20)], FRAME, 10)
    assert edge.right < 990


def test_a_crowd_of_points_has_labels_around_it() -> None:
    points = [(500.0 + k, 500.0 + 3 * k) for k in range(6)]
    boxes = place_labels(points, [(100, 20)] * 6, FRAME, 10)
    assert all(one.overlap(other) < 1e-6 for one, other in combinations(boxes, 2))


@given(st.lists(spots, max_size=4))
def test_few_labels_never_cover_each_other_nor_leave_the_frame(
    points: list[tuple[float, float]],
) -> None:
    boxes = place_labels(points, [(100, 20)] * len(points), FRAME, 10)
    assert all(one.overlap(other) < 1e-6 for one, other in combinations(boxes, 2))
    assert all(abs(box.overlap(FRAME) - box.area) < 1e-6 for box in boxes)

"""Retrieval metrics equal those of pytorch-metric-learning and of a search by hand."""

from __future__ import annotations

import math
import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator

from gsp_deploy import metrics
from gsp_deploy.errors import UsageError
from gsp_deploy.metrics import neighbours, retrieval_metrics

EXACT = 1e-6


def reference(queries, labels, gallery=None, gallery_labels=None):
    calculator = AccuracyCalculator(
        include=("precision_at_1", "mean_average_precision_at_r", "r_precision"),
        k=None,
        device=torch.device("cpu"),
    )
    found = calculator.get_accuracy(queries, labels, gallery, gallery_labels)
    return (
        found["precision_at_1"],
        found["mean_average_precision_at_r"],
        found["r_precision"],
    )


def by_hand(queries, labels, gallery, gallery_labels, ranks, same_set):
    """Sort every distance, query by query; ties in the gallery's order."""
    rows = []
    for i, (query, label) in enumerate(zip(queries, labels, strict=True)):
        squared = ((gallery - query) ** 2).sum(axis=1)
        order = [j for j in np.argsort(squared, kind="stable") if not (same_set and j == i)]
        hits = [gallery_labels[j] == label for j in order]
        r = sum(hits)
        if r == 0:
            continue
        precisions = [sum(hits[: k + 1]) / (k + 1) for k in range(r) if hits[k]]
        recalls = [float(any(hits[:rank])) for rank in ranks]
        rows.append([*recalls, sum(precisions) / r, sum(hits[:r]) / r])
    return np.mean(rows, axis=0)


def figures(result, ranks):
    return [*(result.recall_at[rank] for rank in ranks), result.map_at_r, result.r_precision]


def random_set(seed, count, dim, classes, integer):
    rng = np.random.default_rng(seed)
    points = rng.integers(-2, 3, (count, dim)) if integer else rng.normal(size=(count, dim))
    return points.astype(np.float32), rng.integers(0, classes, count)


@pytest.mark.parametrize("integer", [False, True], ids=["distinct", "ties"])
@pytest.mark.parametrize(("count", "classes"), [(60, 3), (300, 12), (300, 200)])
def test_equals_accuracy_calculator_within_one_set(count, classes, integer):
    points, labels = random_set(0, count, 5, classes, integer)
    result = retrieval_metrics(points, labels)
    expected = reference(points, labels)
    assert (result.recall_at[1], result.map_at_r, result.r_precision) == pytest.approx(
        expected, abs=EXACT
    )


@pytest.mark.parametrize("integer", [False, True], ids=["distinct", "ties"])
def test_equals_accuracy_calculator_with_a_gallery(integer):
    points, labels = random_set(1, 80, 6, 20, integer)
    gallery, gallery_labels = random_set(2, 250, 6, 15, integer)  # five classes are not in it
    result = retrieval_metrics(points, labels, gallery, gallery_labels)
    expected = reference(points, labels, gallery, gallery_labels)
    assert (result.recall_at[1], result.map_at_r, result.r_precision) == pytest.approx(
        expected, abs=EXACT
    )
    assert result.queries == np.isin(labels, gallery_labels).sum() < len(labels)


def test_equals_accuracy_calculator_on_many_duplicates():
    points = np.repeat(np.eye(3, dtype=np.float32), 40, axis=0)
    labels = np.tile(np.arange(4), 30)
    result = retrieval_metrics(points, labels)
    assert (result.recall_at[1], result.map_at_r, result.r_precision) == pytest.approx(
        reference(points, labels), abs=EXACT
    )


@given(
    seed=st.integers(0, 10_000),
    count=st.integers(3, 40),
    classes=st.integers(1, 12),
    same_set=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_equals_a_search_by_hand(seed, count, classes, same_set):
    ranks = (1, 2, 5, 100)
    points, labels = random_set(seed, count, 3, classes, integer=True)
    gallery, gallery_labels = (
        (points, labels) if same_set else random_set(seed + 1, count + 5, 3, classes, True)
    )
    others = () if same_set else (gallery, gallery_labels)
    result = retrieval_metrics(points, labels, *others, ranks=ranks)
    if result.queries:
        expected = by_hand(points, labels, gallery, gallery_labels, ranks, same_set)
        assert figures(result, ranks) == pytest.approx(expected, abs=EXACT)


def test_chunks_change_nothing(monkeypatch):
    points, labels = random_set(3, 500, 4, 25, integer=True)
    whole = retrieval_metrics(points, labels)
    monkeypatch.setattr(metrics, "_CHUNK_ENTRIES", 700)
    assert figures(retrieval_metrics(points, labels), (1, 2, 4, 8)) == pytest.approx(
        figures(whole, (1, 2, 4, 8)), abs=1e-12
    )


def test_memory_is_that_of_a_chunk_not_of_all_pairs():
    """Measured once on 100,000 x 512-D and ranks up to 1000: 706 MB for the whole process."""
    count = 12_000
    points, labels = random_set(0, count, 8, count // 10, integer=False)
    tracemalloc.start()
    try:
        retrieval_metrics(points, labels, ranks=(1, 1000))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 200e6 < 4 * count**2 / 2  # all distances in float32 would be 576 MB


def test_if_there_is_nothing_to_find_the_figures_are_nan():
    result = retrieval_metrics(np.eye(4, dtype=np.float32), np.arange(4))
    assert result.queries == 0
    assert all(math.isnan(value) for value in result.to_dict().values())


def test_perfect_and_hopeless_embeddings():
    labels = np.repeat(np.arange(5), 4)
    perfect = retrieval_metrics(np.eye(5, dtype=np.float32)[labels], labels)
    assert set(perfect.to_dict().values()) == {1.0}
    line = np.arange(20, dtype=np.float32)[:, None]
    assert retrieval_metrics(line, np.tile(np.arange(10), 2)).map_at_r < 0.2


def test_neighbours_are_sorted_and_leave_the_query_out():
    points, _ = random_set(4, 50, 8, 2, integer=False)
    distances, indices = neighbours(points, k=7)
    every = np.linalg.norm(points[:, None] - points[None], axis=2)
    np.fill_diagonal(every, np.inf)
    np.testing.assert_array_equal(indices, np.argsort(every, axis=1)[:, :7])
    np.testing.assert_allclose(distances, np.sort(every, axis=1)[:, :7], rtol=1e-5)
    with_itself = neighbours(points, points, k=1)[1]
    np.testing.assert_array_equal(with_itself[:, 0], np.arange(50))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((np.zeros((3, 2)), np.zeros(4, int)), "labels of shape (3,)"),
        ((np.zeros((3, 2)), np.zeros(3)), "got float64"),
        ((np.full((3, 2), np.nan), np.zeros(3, int)), "embedding 0 holds NaN"),
        ((np.full((3, 4), 5e18), np.zeros(3, int)), "length of 1.0e+19"),
        ((np.zeros(3), np.zeros(3, int)), "shape (count, D)"),
        ((np.zeros((3, 2)), np.zeros(3, int), np.zeros((3, 2))), "both embeddings and labels"),
        ((np.zeros((3, 2)), np.zeros(3, int), None, None, (0,)), "at least 1"),
    ],
)
def test_wrong_inputs_are_refused_with_the_reason(arguments, said):
    with pytest.raises(UsageError) as caught:
        retrieval_metrics(*arguments)
    assert said in str(caught.value)


def test_neighbours_refuses_a_k_above_the_gallery_size():
    with pytest.raises(UsageError, match="from 1 to 2"):
        neighbours(np.zeros((3, 2)), k=3)


@pytest.mark.parametrize("offset", [1e3, 1e4])
def test_a_shift_from_the_origin_does_not_change_neighbours(offset):
    """With this many points faiss multiplies matrices, where float32 would lose such distances."""
    rng = np.random.default_rng(5)
    points = (offset + rng.normal(size=(400, 512))).astype(np.float32)
    gallery = (offset + rng.normal(size=(500, 512))).astype(np.float32)
    distances, indices = neighbours(points, gallery, k=3)
    precise = points.astype(np.float64), gallery.astype(np.float64)
    every = np.stack([np.linalg.norm(precise[1] - point, axis=1) for point in precise[0]])
    assert (indices == np.argsort(every, axis=1)[:, :3]).mean() > 0.999
    np.testing.assert_allclose(distances, np.sort(every, axis=1)[:, :3], rtol=1e-5)


def test_nearly_equal_embeddings_retrieve_as_well_as_their_differences():
    """An untrained network's embeddings are almost parallel; only their differences count."""
    rng = np.random.default_rng(6)
    labels = np.repeat(np.arange(60), 8)
    apart = rng.normal(size=(60, 512))[labels] + 3 * rng.normal(size=(480, 512))
    close = (rng.normal(size=512) + 1e-4 * apart).astype(np.float32)
    # The differences as float32 keeps them, scaled back.
    kept = (close.astype(np.float64) - close[0]) * 1e4
    expected = retrieval_metrics(kept, labels)
    assert 0.1 < expected.map_at_r < 0.9
    assert retrieval_metrics(close, labels).map_at_r == pytest.approx(expected.map_at_r, abs=1e-3)

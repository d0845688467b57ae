"""Neighbours, flips and metric changes against a search written out by hand."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from gsp_deploy.parity.retrieval import retrieval_agreement

DRAW = np.random.default_rng(2)


def ranking(embeddings: np.ndarray) -> list[list[int]]:
    """Every image's others, nearest first."""
    found = []
    for i, query in enumerate(embeddings):
        distances = np.linalg.norm(embeddings - query, axis=1)
        found.append([int(j) for j in np.argsort(distances, kind="stable") if j != i])
    return found


def by_hand(embeddings: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """R@1 and MAP@R over queries whose class has another member."""
    recalls, precisions = [], []
    for i, others in enumerate(ranking(embeddings)):
        hits = [labels[j] == labels[i] for j in others]
        relevant = sum(hits)
        if relevant:
            recalls.append(hits[0])
            first = [sum(hits[: k + 1]) / (k + 1) for k in range(relevant) if hits[k]]
            precisions.append(sum(first) / relevant)
    return float(np.mean(recalls)), float(np.mean(precisions))


@pytest.fixture
def pair() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Thirty embeddings, a noisy copy, and classes of which one has a single member."""
    reference = DRAW.standard_normal((30, 6)).astype(np.float32)
    candidate = (reference + 0.3 * DRAW.standard_normal((30, 6))).astype(np.float32)
    return reference, candidate, np.array([0] * 9 + [1] * 12 + [2] * 8 + [3])


def test_overlap_and_flips_match_a_search_by_hand(pair: tuple[np.ndarray, ...]) -> None:
    reference, candidate, _ = pair
    found = retrieval_agreement(reference, candidate)
    expected, came = ranking(reference), ranking(candidate)
    for k in (1, 10):
        shares = [len(set(a[:k]) & set(b[:k])) / k for a, b in zip(expected, came, strict=True)]
        assert found.overlap_at[k] == pytest.approx(np.mean(shares))
    flips = sum(a[0] != b[0] for a, b in zip(expected, came, strict=True))
    assert 0 < flips < 30
    assert found.flips == flips
    assert found.flip_share == flips / 30


def test_regret_is_how_much_farther_the_chosen_neighbour_is(pair: tuple[np.ndarray, ...]) -> None:
    reference, candidate, _ = pair
    worst = 0.0
    for i, (a, b) in enumerate(zip(ranking(reference), ranking(candidate), strict=True)):
        near, far = (np.linalg.norm(reference[i] - reference[j]) for j in (a[0], b[0]))
        worst = max(worst, 1 - near / far)
    assert retrieval_agreement(reference, candidate).worst_regret == pytest.approx(worst, rel=1e-5)


def test_distances_within_rounding_of_the_embeddings_are_ties() -> None:
    """Copies in other encodings are 1e-5 apart: which of them comes first is rounding."""
    reference = np.eye(4, dtype=np.float64)[[0, 0, 0, 1, 2]]
    reference[1, 3], reference[2, 3] = 1.0e-5, 1.05e-5
    candidate = reference.copy()
    candidate[2, 3], candidate[1, 3] = 1.0e-5, 1.05e-5
    found = retrieval_agreement(reference, candidate)
    assert found.worst_regret > 1e-2
    assert found.flips == 0


def test_changes_of_the_metrics_match_a_search_by_hand(pair: tuple[np.ndarray, ...]) -> None:
    reference, candidate, labels = pair
    found = retrieval_agreement(reference, candidate, labels)
    before, after = by_hand(reference, labels), by_hand(candidate, labels)
    assert found.recall_change == pytest.approx(after[0] - before[0])
    assert found.map_change == pytest.approx(after[1] - before[1])
    assert found.map_change != 0


def test_without_labels_there_is_no_change_to_speak_of(pair: tuple[np.ndarray, ...]) -> None:
    found = retrieval_agreement(*pair[:2])
    assert np.isnan(found.recall_change)
    assert np.isnan(found.map_change)
    assert "recall_at_1_change" not in found.to_dict()


def test_choosing_between_copies_of_one_image_is_no_flip() -> None:
    """Images 1 and 2 are one file twice; 3 sees them at the same distance."""
    reference = np.array([[0, 0], [1, 0], [1, 0], [3, 0]], np.float32)
    candidate = reference.copy()
    candidate[1, 0] -= 1e-3
    found = retrieval_agreement(reference, candidate)
    assert found.overlap_at[1] == 1
    assert found.flips == 0
    assert found.worst_regret == 0


def test_few_images_are_searched_as_deep_as_there_are_others() -> None:
    embeddings = DRAW.standard_normal((4, 3)).astype(np.float32)
    assert retrieval_agreement(embeddings, embeddings).overlap_at == {1: 1.0, 3: 1.0}
    assert retrieval_agreement(embeddings[:2], embeddings[:2]).overlap_at == {1: 1.0}


def test_what_ties_is_a_millionth_of_the_distance_or_of_the_length() -> None:
    """Image 0 has two neighbours; the candidate exchanges them."""
    for length, distance in ((0.0, 1.0), (3.0, 1.0)):
        for excess, flips in ((0.5e-6, 0), (2e-6, 1)):
            tie = max(length, distance)
            near, far = distance, distance + excess * tie
            reference = np.array([[length, 0], [length, near], [length, -far]], np.float64)
            candidate = np.array([[length, 0], [length, far], [length, -near]], np.float64)
            found = retrieval_agreement(reference, candidate)
            assert found.flips == flips
            assert found.overlap_at[1] == pytest.approx(1 - flips / 3)


def test_a_neighbour_at_the_same_place_is_no_division_by_zero() -> None:
    reference = np.zeros((3, 2), np.float32)
    found = retrieval_agreement(reference, reference)
    assert (found.worst_regret, found.flips, found.overlap_at) == (0, 0, {1: 1.0, 2: 1.0})


def test_the_agreement_as_data(pair: tuple[np.ndarray, ...]) -> None:
    found = retrieval_agreement(*pair)
    data = found.to_dict()
    assert data["overlap_at"] == {"1": found.overlap_at[1], "10": found.overlap_at[10]}
    assert (data["top1_flips"], data["queries"]) == (found.flips, 30)
    assert data["top1_flip_share"] == found.flips / 30
    assert data["worst_regret"] == found.worst_regret
    assert found.reference is not None
    assert found.candidate is not None
    for side, metrics in (("reference", found.reference), ("candidate", found.candidate)):
        assert data[side] == metrics.to_dict()
    assert data["recall_at_1_change"] == found.recall_change
    assert data["map_at_r_change"] == found.map_change


@pytest.mark.parametrize("side", ["reference", "candidate"])
def test_a_change_takes_the_metrics_of_both(side: str, pair: tuple[np.ndarray, ...]) -> None:
    found = dataclasses.replace(retrieval_agreement(*pair), **{side: None})
    assert np.isnan(found.recall_change)
    assert np.isnan(found.map_change)
    assert not {"reference", "candidate", "recall_at_1_change"} & found.to_dict().keys()


@pytest.mark.parametrize("times", [2, 3, 3.5])
def test_a_neighbour_several_times_as_far_is_a_flip(times: float) -> None:
    reference = np.array([[0, 0], [0, 1], [0, -times]], np.float64)
    candidate = np.array([[0, 0], [0, times], [0, -1]], np.float64)
    found = retrieval_agreement(reference, candidate)
    assert found.flips == 1
    assert found.worst_regret == pytest.approx(1 - 1 / times)

"""Evaluation of sessions on data sets: protocols, ensembles, order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gsp_deploy import PreprocessingSpec
from gsp_deploy.artifact import TensorSpec
from gsp_deploy.data import Dataset, LabelledImages, open_dataset
from gsp_deploy.errors import DataError, UsageError
from gsp_deploy.metrics import retrieval_metrics
from gsp_deploy.retrieval.evaluation import embed_images, evaluate
from gsp_deploy.runtime import EmbeddingSession, SessionOptions
from gsp_deploy.runtime.session import SessionInfo

SIZE = 8


class CornerColour(EmbeddingSession):
    """Embeds an image as its corner's colour through a fixed matrix: easy to check."""

    def __init__(self, name: str, matrix: np.ndarray) -> None:
        spec = PreprocessingSpec(SIZE, SIZE, mean=(0, 0, 0), std=(1, 1, 1))
        super().__init__(
            SessionInfo(
                path=Path(name),
                runtime="numpy",
                device="cpu",
                precision="fp32",
                input=TensorSpec("images", "float32", ("batch", 3, SIZE, SIZE)),
                outputs=("embedding",),
                embedding_dim=matrix.shape[1],
                preprocessing=spec,
            ),
            SessionOptions(),
        )
        self.matrix = matrix.astype(np.float32)

    def infer(self, inputs: np.ndarray, outputs: tuple[str, ...]) -> dict[str, np.ndarray]:
        return {"embedding": inputs[:, :, 0, 0] @ self.matrix}

    def close(self) -> None:
        self.matrix = np.zeros(0)


class Colours:
    """A source of images with one colour each."""

    def __init__(self, colours: np.ndarray) -> None:
        self.colours = colours
        self.parameters = {"kind": "colours"}

    def image(self, position: int) -> Image.Image:
        return Image.new("RGB", (SIZE, SIZE), tuple(int(c) for c in self.colours[position]))


@pytest.fixture
def colours() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (150, 3))


def labelled(colours: np.ndarray, positions: range) -> LabelledImages:
    labels = colours[positions.start : positions.stop, 0] // 64
    ids = tuple(f"{p}.png" for p in positions)
    return LabelledImages(Colours(colours), np.array(positions), ids, labels, tuple("abcd"))


def truth(colours: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    return colours.astype(np.float32) * np.float32(1 / 255) @ matrix.astype(np.float32)


def test_embeddings_come_in_the_images_order(colours: np.ndarray) -> None:
    session = CornerColour("m.onnx", np.eye(3))
    found = embed_images(session, labelled(colours, range(150)))
    np.testing.assert_allclose(found, truth(colours, np.eye(3)), atol=1e-6)


def test_one_set_searches_itself(colours: np.ndarray) -> None:
    images = labelled(colours, range(150))
    seen: list[int] = []
    found = evaluate(
        [CornerColour("m.onnx", np.eye(3))], Dataset("c", images, images), progress=seen.append
    )
    expected = retrieval_metrics(truth(colours, np.eye(3)), images.labels)
    assert found.models["m.onnx"].to_dict() == pytest.approx(expected.to_dict())
    assert found.separated == pytest.approx(expected.to_dict())
    assert found.concatenated is None
    assert sum(seen) == 150


def test_queries_search_a_gallery_where_there_is_one(colours: np.ndarray) -> None:
    query, gallery = labelled(colours, range(40)), labelled(colours, range(40, 150))
    both = labelled(colours, range(150))
    dataset = Dataset("c", both, both, query, gallery, recall_ranks=(1, 10))
    found = evaluate([CornerColour("m.onnx", np.eye(3))], dataset)
    points = truth(colours, np.eye(3))
    expected = retrieval_metrics(points[:40], query.labels, points[40:], gallery.labels, (1, 10))
    assert found.models["m.onnx"].to_dict() == pytest.approx(expected.to_dict())


def test_an_ensemble_is_averaged_and_joined(colours: np.ndarray) -> None:
    images = labelled(colours, range(150))
    matrices = np.random.default_rng(1).normal(size=(4, 3, 2))
    sessions = [CornerColour(f"fold{i}.onnx", matrix) for i, matrix in enumerate(matrices)]
    found = evaluate(sessions, Dataset("c", images, images))
    singles = [retrieval_metrics(truth(colours, m), images.labels).to_dict() for m in matrices]
    for name, value in found.separated.items():
        assert value == pytest.approx(np.mean([single[name] for single in singles]))
    unit = [truth(colours, m) for m in matrices]
    joined = np.concatenate([u / np.linalg.norm(u, axis=1, keepdims=True) for u in unit], axis=1)
    expected = retrieval_metrics(joined, images.labels)
    assert found.concatenated is not None
    assert found.concatenated.to_dict() == pytest.approx(expected.to_dict())


def test_the_same_model_twice_is_refused(colours: np.ndarray) -> None:
    images = labelled(colours, range(10))
    twice = [CornerColour("m.onnx", np.eye(3)) for _ in range(2)]
    with pytest.raises(UsageError, match="twice"):
        evaluate(twice, Dataset("c", images, images))


def test_nothing_to_evaluate_is_refused(colours: np.ndarray) -> None:
    empty = labelled(colours, range(0))
    with pytest.raises(DataError, match="c: expected images to test, got 0 to train and none"):
        evaluate([CornerColour("m.onnx", np.eye(3))], Dataset("c", empty, empty))
    with pytest.raises(UsageError, match="at least one model"):
        evaluate([], Dataset("c", empty, empty))


def test_a_built_in_set_goes_through(tmp_path: Path) -> None:
    dataset = open_dataset("glyphs:size=48,images_per_class=2,train_classes=2,test_classes=3")
    found = evaluate([CornerColour("m.onnx", np.eye(3))], dataset)
    assert (found.images, found.classes) == (6, 3)
    assert found.fingerprint == dataset.test.fingerprint()


def test_a_plain_folder_is_searched_whole(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        for number in range(2):
            path = tmp_path / name / f"{number}.png"
            path.parent.mkdir(exist_ok=True)
            Image.new("RGB", (SIZE, SIZE), (80 * "abc".index(name), 20, 20 + number)).save(path)
    found = evaluate([CornerColour("m", np.eye(3))], open_dataset(f"folder:{tmp_path}"))
    assert (found.images, found.classes) == (6, 3)
    assert found.models["m"].recall_at[1] == 1


def test_images_of_one_class_are_refused(tmp_path: Path) -> None:
    for number in range(3):
        path = tmp_path / "only" / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (SIZE, SIZE)).save(path)
    with pytest.raises(DataError, match=r"got only only; every answer would be right"):
        evaluate([CornerColour("m", np.eye(3))], open_dataset(f"folder:{tmp_path}"))


def test_images_without_a_match_are_refused(colours: np.ndarray) -> None:
    """Every metric would be a mean of nothing."""
    model = [CornerColour("m", np.eye(3))]
    whole = labelled(colours, range(len(colours)))
    first = [int(np.flatnonzero(whole.labels == label)[0]) for label in np.unique(whole.labels)]
    singles, empty = whole.subset(first), whole.subset([])
    with pytest.raises(DataError, match="no image has a match to find"):
        evaluate(model, Dataset("c", empty, singles))
    query, gallery = singles.subset([0]), singles.subset([1, 2])
    with pytest.raises(DataError, match="no image has a match to find"):
        evaluate(model, Dataset("c", empty, singles, query, gallery))
    assert evaluate(model, Dataset("c", empty, singles, query, singles)).images

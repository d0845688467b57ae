"""Names: short, and never the same for two files."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gsp_deploy.report.names import shortest_names

paths = st.lists(st.lists(st.sampled_from("abc"), min_size=1, max_size=4).map("/".join))


def test_as_much_of_the_folder_as_is_needed() -> None:
    found = shortest_names(["/runs/a/model.onnx", "/runs/b/model.onnx", "/runs/b/other.onnx"])
    assert found == ["a/model.onnx", "b/model.onnx", "other.onnx"]


@given(paths)
def test_names_are_ends_and_as_different_as_the_paths(given_paths: list[str]) -> None:
    names = shortest_names(given_paths)
    assert len(set(names)) == len(set(given_paths))
    assert all(path.endswith(name) for path, name in zip(given_paths, names, strict=True))

"""Write a built-in data set as plain files, for tools that need a folder."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from gsp_deploy.base.scratch import scratch_beside
from gsp_deploy.data.collage import Collage
from gsp_deploy.data.images import Dataset
from gsp_deploy.errors import UsageError


def write_tree(
    dataset: Dataset,
    root: str | os.PathLike[str],
    *,
    on_image: Callable[[], object] | None = None,
) -> None:
    """Write a built-in set below a new folder as `train/CLASS/0000.png` and `test/...`.

    `folder:` reads the tree with the same ids, labels and pixels. The tree is written whole or not
    at all. `on_image` is called after each image.

    Raises:
        UsageError: the set is not a built-in one, or `root` exists and is not empty.
        OutputError: the disk is full or not writable; nothing is left behind.
    """
    target = Path(root)
    parts = (dataset.train, dataset.test)
    if not all(isinstance(part.source, Collage) for part in parts):
        raise UsageError(
            f"expected a built-in data set to write as files, got {dataset.name}, which is files"
        )
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UsageError(f"{target} exists and is not an empty folder; choose another name")
    with scratch_beside(target) as scratch:
        tree = scratch / target.name
        for part in parts:
            for index, name in enumerate(part.ids):
                (tree / name).parent.mkdir(parents=True, exist_ok=True)
                part.image(index).save(tree / name)
                if on_image:
                    on_image()
        os.replace(tree, target)

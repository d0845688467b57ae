"""Images with classes: the benchmarks of metric learning, a team's own, and two built-in sets.

`open_dataset` takes a spec such as `glyphs:clutter=5`, `cub:PATH` or a folder's path. What comes
back is lists and functions; no image is read before it is asked for, and no torch is needed.
"""

from __future__ import annotations

from gsp_deploy.data.catalogue import KINDS, DatasetKind, kind_of, open_dataset, path_of
from gsp_deploy.data.images import Dataset, ImageFiles, ImageSource, LabelledImages
from gsp_deploy.data.splits import cross_validation_folds, validation_split

__all__ = [
    "KINDS",
    "Dataset",
    "DatasetKind",
    "ImageFiles",
    "ImageSource",
    "LabelledImages",
    "cross_validation_folds",
    "kind_of",
    "open_dataset",
    "path_of",
    "validation_split",
]

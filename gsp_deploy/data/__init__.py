"""Open data sets of labelled images: metric-learning benchmarks, your own, and two built-in ones.

`open_dataset` takes a spec such as `glyphs:clutter=5`, `cub:PATH` or a folder's path. It returns
lists of images; an image is read only when you ask for it. This package does not need torch.
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

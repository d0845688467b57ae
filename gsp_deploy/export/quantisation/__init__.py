"""Quantise a backbone to int8 with Q/DQ pairs around its layers, judged by retrieval.

Call `quantise_draft`. The whole pooling head stays in float32, including its 1x1 embedding. That
convolution is about one hundredth of a backbone's work. Its error would go undamped into the
embedding, and into the transport costs, which differ only slightly.
"""

from __future__ import annotations

from gsp_deploy.export.quantisation.images import (
    QuantisationImages,
    quantisation_images,
    quantisation_images_of,
)
from gsp_deploy.export.quantisation.range_cache import cache_path
from gsp_deploy.export.quantisation.search import quantise_draft

__all__ = [
    "QuantisationImages",
    "cache_path",
    "quantisation_images",
    "quantisation_images_of",
    "quantise_draft",
]

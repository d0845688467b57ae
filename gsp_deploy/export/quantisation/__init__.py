"""int8 by Q/DQ pairs around the backbone's layers, judged by retrieval.

`quantise_draft` is the way in. The pooling head stays in float32 whole, its 1x1 embedding
included: that convolution is about one hundredth of a backbone's work, and its error would go
into the embedding undamped and into the transport costs, whose differences are small.
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

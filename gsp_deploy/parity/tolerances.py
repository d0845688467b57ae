"""How far a candidate may be from its reference, by the precision that it computes in.

The limits stand a small factor above what sound exports showed in the worst of 160 to 320 images,
on ResNet-18, MobileNetV3, EfficientNet-Lite0 (trained and not) and a small network, with gamma
from 0.1 to 20, both solvers, rounding emulated, int8 by static quantisation of the backbone: tight
enough that one wrong image, one unconverged weight or one operator in the wrong precision shows.
MobileNet in int8 fails them, and so does EfficientNet in int8 and, whole, in bf16: as they should.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass

from gsp_deploy.errors import UsageError


@dataclass(frozen=True)
class Tolerances:
    """Limits of the gates. Errors are those of the worst image, shares and drops are in [0, 1].

    Attributes:
        max_cosine_distance: 1 - cos of the two embeddings.
        max_embedding_error: largest error over the embedding's largest entry.
        max_attribute_error: the same of the attributes.
        max_weight_error: largest error of a mixing weight over the spread of the image's weights.
        max_marginal_error: the candidate's |mean w - 1|.
        max_flips: share of images whose nearest neighbour changes.
        min_overlap: mean share of the ten nearest neighbours that stay.
        max_recall_drop: R@1 lost.
        max_map_drop: MAP@R lost.
        max_batch_error: relative change of an embedding with its place in the batch.
        max_leak: relative change of an embedding when its neighbours in the batch change.
        max_layer_error: RMS error over RMS at one node, for the search along the graph.
    """

    max_cosine_distance: float
    max_embedding_error: float
    max_attribute_error: float
    max_weight_error: float
    max_marginal_error: float
    max_flips: float
    min_overlap: float
    max_recall_drop: float
    max_map_drop: float
    max_batch_error: float
    max_leak: float
    max_layer_error: float

    def __post_init__(self) -> None:
        for name, value in dataclasses.asdict(self).items():
            if math.isnan(value) or value < 0:
                raise UsageError(f"{name} must be a number of at least 0, got {value}")


# fmt: off
_TABLE: dict[str, tuple[float, ...]] = {
    #           cosine  embed. attrib. weight marginal flips overlap recall map   batch  leak  layer
    "fp32":    (1e-7,   1e-3,  1e-3,   1e-3,  1e-3,    0.001, 0.99, 0.001, 0.001, 1e-5, 1e-5, 1e-4),
    "fp16":    (1e-3,   5e-2,  5e-2,   5e-2,  1e-3,    0.05,  0.95, 0.005, 0.005, 5e-3, 1e-5, 3e-2),
    "bf16":    (1e-2,   2e-1,  2e-1,   2.5e-1, 1e-3,   0.15,  0.90, 0.01,  0.01,  3e-2, 1e-5, 2e-1),
    "int8":    (5e-2,   4e-1,  4e-1,   4e-1,  1e-3,    0.20,  0.85, 0.01,  0.01,  3e-2, 1e-5, 4e-1),
    "unknown": (1e-3,   5e-2,  5e-2,   5e-2,  1e-3,    0.05,  0.95, 0.005, 0.005, 5e-3, 1e-5, 3e-2),
}
# fmt: on

TOLERANCES = {precision: Tolerances(*limits) for precision, limits in _TABLE.items()}


def tolerances_for(
    precision: str, overrides: Mapping[str, float | None] | None = None
) -> Tolerances:
    """Return the limits for a candidate of this precision, some of them replaced.

    Args:
        precision: `fp32`, `fp16`, `bf16`, `int8`; anything else counts as `unknown`.
        overrides: limits by attribute name; None leaves the default.

    Raises:
        UsageError: a limit is unknown or below 0.
    """
    limits = TOLERANCES.get(precision, TOLERANCES["unknown"])
    given = {name: value for name, value in (overrides or {}).items() if value is not None}
    known = [f.name for f in dataclasses.fields(Tolerances)]
    if strange := sorted(set(given) - set(known)):
        raise UsageError(f"there is no limit {strange[0]!r}; expected one of {', '.join(known)}")
    return dataclasses.replace(limits, **given)

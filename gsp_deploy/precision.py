"""The table of precisions, one row each, with all limits and settings that depend on them.

To add a precision, add its word to `PrecisionWord` and its row to `PRECISIONS`. Every list of
precisions, every help text and every limit follows from here.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from gsp_deploy.base.elements import ELEMENTS, Element
from gsp_deploy.errors import UsageError, brief

PrecisionWord = Literal["fp32", "fp16", "bf16", "int8"]
FloatPrecisionWord = Literal["fp32", "fp16", "bf16"]

# The precision of a file that gsp-deploy did not export is unknown.
UNKNOWN = "unknown"
DEFAULT_OPSET = 18


@dataclass(frozen=True)
class Tolerances:
    """Limits of the gates. Errors are of the worst image; shares and drops are in [0, 1].

    Attributes:
        max_cosine_distance: 1 - cos of the two embeddings.
        max_embedding_error: largest error over the embedding's largest entry.
        max_attribute_error: the same for the attributes.
        max_weight_error: largest error of a mixing weight over the spread of the image's weights.
        max_marginal_error: the candidate's |mean w - 1|.
        max_flips: share of images with another nearest neighbour than before.
        min_overlap: mean share of the ten nearest neighbours that stay.
        max_recall_drop: R@1 lost.
        max_map_drop: MAP@R lost.
        max_batch_error: relative change of an embedding between places in the batch.
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


@dataclass(frozen=True)
class Precision:
    """A precision of the backbone, and all settings that depend on it.

    Attributes:
        word: its name in commands and manifests.
        element: the type of the values that its operators take.
        tolerances: the limits on a candidate's difference from its reference.
        quantised: whether it needs activation ranges, and so images to calibrate on.
        opset: the operator set that an export takes by default.
        conv_opset: the first operator set whose Conv takes the element type.
        emulated_on_cpu: whether ONNX Runtime's CPU provider only imitates it. Then its speed there
            means nothing, and its rounding must be written into the graph.
    """

    word: PrecisionWord
    element: Element
    tolerances: Tolerances
    quantised: bool = False
    opset: int = DEFAULT_OPSET
    conv_opset: int = 1
    emulated_on_cpu: bool = False

    @property
    def lowered(self) -> bool:
        """Whether explicit casts can convert a float32 graph to it."""
        return not self.quantised and self.word != "fp32"


# The limits are a small factor above what sound exports showed in the worst of 160 to 320 images,
# on ResNet-18, MobileNetV3, EfficientNet-Lite0 (trained and not) and a small network, with gamma
# from 0.1 to 20, both solvers, rounding emulated, int8 by static quantisation of the backbone. In
# fp16 the embedding error is from constant images, on which rounding errors add up: 6e-2, where
# photographs show 1e-2; the cosine distance is the tighter gate. One
# wrong image, one unconverged weight or one operator in the wrong precision exceeds them. MobileNet
# and EfficientNet in int8 fail them, and so does EfficientNet computed wholly in bf16; both lose
# retrieval quality, so they should fail.
# fmt: off
#                  cosine embed. attrib. weight marg. flips overlap recall map   batch leak  layer
_FP32 = Tolerances(1e-7,  1e-3,  1e-3, 1e-3,   1e-3, 0.001, 0.99, 0.001, 0.001, 1e-5, 1e-5, 1e-4)
_FP16 = Tolerances(1e-3,  1e-1,  5e-2, 5e-2,   1e-3, 0.05,  0.95, 0.005, 0.005, 5e-3, 1e-5, 3e-2)
_BF16 = Tolerances(1e-2,  2e-1,  2e-1, 2.5e-1, 1e-3, 0.15,  0.90, 0.01,  0.01,  3e-2, 1e-5, 2e-1)
_INT8 = Tolerances(5e-2,  4e-1,  4e-1, 4e-1,   1e-3, 0.20,  0.85, 0.01,  0.01,  3e-2, 1e-5, 4e-1)
_NONE = Tolerances(1e-3,  1e-1,  5e-2, 5e-2,   1e-3, 0.05,  0.95, 0.005, 0.005, 5e-3, 1e-5, 3e-2)
# fmt: on

_ROWS = (
    Precision("fp32", ELEMENTS["float32"], _FP32),
    Precision("fp16", ELEMENTS["float16"], _FP16, emulated_on_cpu=True),
    Precision("bf16", ELEMENTS["bfloat16"], _BF16, opset=22, conv_opset=22, emulated_on_cpu=True),
    Precision("int8", ELEMENTS["int8"], _INT8, quantised=True),
)

PRECISIONS: Mapping[str, Precision] = {row.word: row for row in _ROWS}
WORDS: tuple[PrecisionWord, ...] = get_args(PrecisionWord)
FLOAT_WORDS: tuple[FloatPrecisionWord, ...] = get_args(FloatPrecisionWord)
# By precision, and for files of unknown precision.
TOLERANCES: Mapping[str, Tolerances] = {
    **{row.word: row.tolerances for row in _ROWS},
    UNKNOWN: _NONE,
}


def precision_named(word: str) -> Precision:
    """Return the row of a precision.

    Raises:
        UsageError: there is no such precision.

    >>> precision_named("fp16").quantised
    False
    """
    if word not in PRECISIONS:
        raise UsageError(f"precision must be one of {', '.join(WORDS)}, got {brief(word)}")
    return PRECISIONS[word]


def lowered_to(of_file: str, computed: str | None) -> str:
    """Return the precision of a file's embeddings if its floats are computed in another one.

    int8 stays int8, and float32 does not bring back what the file's weights have lost.

    >>> lowered_to("fp32", "bf16"), lowered_to("int8", "bf16"), lowered_to("bf16", "fp32")
    ('bf16', 'int8', 'bf16')
    """
    quantised = of_file in PRECISIONS and PRECISIONS[of_file].quantised
    return of_file if computed in (None, "fp32") or quantised else str(computed)


def tolerances_for(
    precision: str, overrides: Mapping[str, float | None] | None = None
) -> Tolerances:
    """Return the limits for a candidate of this precision, with `overrides` applied.

    Args:
        precision: `fp32`, `fp16`, `bf16`, `int8`, or `unknown` for a file that does not say.
        overrides: limits by attribute name; None leaves the default.

    Raises:
        UsageError: there is no such precision or limit, or a limit is below 0.
    """
    if precision not in TOLERANCES:
        raise UsageError(
            f"there are no limits for the precision {brief(precision)}; expected one of "
            f"{', '.join(TOLERANCES)}"
        )
    given = {name: value for name, value in (overrides or {}).items() if value is not None}
    known = [f.name for f in dataclasses.fields(Tolerances)]
    if strange := sorted(set(given) - set(known)):
        raise UsageError(f"there is no limit {strange[0]!r}; expected one of {', '.join(known)}")
    return dataclasses.replace(TOLERANCES[precision], **given)

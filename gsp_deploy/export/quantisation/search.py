"""Choose the layers that stay in float32: the most sensitive, and as few as the drop allows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import onnx_ir as ir

from gsp_deploy.artifact import FloatLayer, QuantisationRecord, QuantisationTrial
from gsp_deploy.base.progress import Announce
from gsp_deploy.errors import GspDeployError
from gsp_deploy.export.quantisation.graph import quantise_graph
from gsp_deploy.export.quantisation.images import QuantisationImages
from gsp_deploy.export.quantisation.layers import Layer, find_layers
from gsp_deploy.export.quantisation.quantisable import Quantisable
from gsp_deploy.export.quantisation.range_cache import cached_ranges
from gsp_deploy.export.quantisation.ranges import Ranges
from gsp_deploy.export.quantisation.retrieval_score import Judge, Score
from gsp_deploy.export.transport import SolverPlan

Q = TypeVar("Q", bound=Quantisable)


def quantise_draft(
    draft: Q,
    plan: SolverPlan,
    images: QuantisationImages,
    cache: Path | None = None,
    announce: Announce = lambda line: None,
) -> tuple[Q, QuantisationRecord]:
    """Return the draft with an int8 backbone, and the record of the search.

    The first attempt has all layers in int8. If the score drops by more than `options.max_drop`,
    the layers are ranked by the error in the embedding when only that layer is in int8. The fewest
    most sensitive layers that keep the drop stay in float32. If no number of them does, the best
    attempt is returned, and the record says so.

    Args:
        draft: a float32 backbone and the options; an adopted network is all backbone.
        plan: the solver that the attempts use.
        images: the images to calibrate on and to judge with.
        cache: the file of activation ranges, or None to keep none.
        announce: called with a line at each stage, because the search may take minutes.

    Raises:
        GspDeployError: the backbone has no layer to quantise.
    """
    layers = find_layers(draft.backbone)
    if not layers:
        raise GspDeployError(
            f"the backbone {draft.config.backbone} has no convolution or matrix product with "
            "constant weights to quantise; export it as fp16"
        )
    method = draft.options.calibration_method
    ranges = cached_ranges(draft.backbone, images.calibration, method, cache, announce)
    attempts = _Attempts(draft.backbone, layers, ranges, Judge(draft, plan, images), announce)
    count = attempts.settle(draft.options.max_drop)
    record = attempts.record(count, draft, images)
    return draft.variant(attempts.backbone(count)), record


def fewest(passes: Callable[[int], bool], most: int) -> int | None:
    """Return the smallest count from 1 to `most` that passes, or None if `most` does not.

    Try 1, 2, 4... until one passes, then halve the gap below it: at most about 2 log2(most)
    trials. The result is the smallest if every count above a passing one passes too.
    """
    failed, count = 0, 1
    while count < most and not passes(count):
        failed, count = count, 2 * count
    enough = min(count, most)
    if most < 1 or not passes(enough):
        return None
    while enough - failed > 1:
        middle = (failed + enough) // 2
        failed, enough = (failed, middle) if passes(middle) else (middle, enough)
    return enough


class _Attempts:
    """One backbone with more or fewer of its layers left in float32, the most sensitive first."""

    def __init__(
        self,
        float32: ir.Model,
        layers: Sequence[Layer],
        ranges: Ranges,
        judge: Judge,
        announce: Announce,
    ) -> None:
        self._float32 = float32
        self._layers = list(layers)
        self._ranges = ranges
        self._judge = judge
        self._announce = announce
        self._sensitivity: dict[Layer, float] = {}
        self._scores: dict[int, Score] = {}

    def settle(self, max_drop: float) -> int:
        """Return how many layers to leave in float32: the fewest that pass, or the best."""

        def passes(count: int) -> bool:
            return self._judge.float32.value - self._score(count).value <= max_drop

        if passes(0):
            return 0
        self._rank()
        count = fewest(passes, len(self._layers) - 1)
        if count is None:
            return max(self._scores, key=lambda tried: (self._scores[tried].value, -tried))
        return count

    def backbone(self, count: int) -> ir.Model:
        """Return the backbone with the first `count` layers in float32 and the others in int8."""
        return self._quantise(self._layers[count:])

    def record(
        self, count: int, draft: Quantisable, images: QuantisationImages
    ) -> QuantisationRecord:
        """Describe the chosen attempt and all other attempts."""
        score = self._score(count)
        return QuantisationRecord(
            method=draft.options.calibration_method,
            calibration=images.calibration.source,
            layers=len(self._layers),
            float_layers=tuple(
                FloatLayer(layer.name, layer.node, layer.operator, self._sensitivity[layer])
                for layer in self._layers[:count]
            ),
            measure=self._judge.measure,
            validation=images.validation.source,
            float32_score=self._judge.float32.value,
            score=score.value,
            neighbour_overlap=score.overlap,
            max_drop=draft.options.max_drop,
            trials=tuple(
                QuantisationTrial(tried, self._scores[tried].value)
                for tried in sorted(self._scores)
            ),
            notes=images.notes,
        )

    def _rank(self) -> None:
        """Sort the layers by the error that each causes alone in int8, the largest first."""
        self._announce(f"measuring what each of {len(self._layers)} layers does to the embedding")
        for layer in self._layers:
            self._sensitivity[layer] = self._judge.deviation(self._quantise([layer]))
        self._layers.sort(key=lambda layer: self._sensitivity[layer], reverse=True)

    def _score(self, count: int) -> Score:
        if count not in self._scores:
            score = self._scores[count] = self._judge.score(self.backbone(count))
            self._announce(
                f"{self._judge.measure} {score.value:.2f} with {count} of {len(self._layers)} "
                f"layers in float32, {self._judge.float32.value:.2f} with all of them"
            )
        return self._scores[count]

    def _quantise(self, chosen: Sequence[Layer]) -> ir.Model:
        left_out = [layer for layer in self._layers if layer not in chosen]
        return quantise_graph(self._float32, chosen, left_out, self._ranges)

"""Compare two forms of one model value by value along the graph."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gsp_deploy.artifact.kind import ONNX, kind_of
from gsp_deploy.artifact.tensors import CERTIFICATES
from gsp_deploy.config import PreprocessingSpec
from gsp_deploy.errors import DataError, UsageError
from gsp_deploy.parity.layers.graph import TracedGraph, TracedValue, load_graph, trace
from gsp_deploy.parity.layers.probes import OnnxProbe, Probe
from gsp_deploy.parity.layers.report import LayerReport, NodeError
from gsp_deploy.parity.outputs import COMPARABLE, shared_preprocessing
from gsp_deploy.precision import tolerances_for
from gsp_deploy.reference import SMALLEST_SHARE_SPREAD
from gsp_deploy.runtime import SessionOptions, open_with

# Every inner value of a batch is in memory at once, of both models.
CHUNK = 2
_DEFAULT_OPTIONS = SessionOptions()
_SOLVER_STEP = re.compile(r"gsp/((?P<solver>newton|fixed_point|certified)_\d+|sweep)/(?P<value>.+)")
_SOLVER_START = "gsp/beta"
# Not compared: values of the chosen prototype, because of two equally near ones either may be
# chosen; the least product, which cancels from the costs; and certificates, which are noise around
# zero. The values computed from them are compared.
_UNSETTLED = frozenset(
    f"gsp/{name}"
    for name in (
        *("nearest", "nearest_rows", "nearest_prototype", "offset", "nearest_square"),
        *(
            "least_product",
            "beyond_nearest",
            "weight_excess",
            "pooled_error",
            "pooled_error_share",
            *CERTIFICATES,
        ),
    )
) | frozenset(CERTIFICATES)
# The solver's unknown is a logit: an error of 0.01 in it is 1 % of a weight, however close to 0
# the unknown itself comes.
_LOGIT = re.compile(r"gsp/(.+/)?(beta|high)$")
_LOGIT_SCALE = 1.0
# The transport ratio fixes the mean of these for every image; the signal is how far each location
# is from that mean.
_CENTERED = frozenset({"gsp/logit", "gsp/kept", "gsp/weights", "weights"})


def compare_layers(
    reference: str | os.PathLike[str],
    candidate: str | os.PathLike[str],
    images: np.ndarray,
    threshold: float | None = None,
    reference_options: SessionOptions = _DEFAULT_OPTIONS,
    candidate_options: SessionOptions = _DEFAULT_OPTIONS,
    emulate_fp16: bool = True,
) -> LayerReport:
    """Run both models on the same images and compare every value that both have by name.

    Args:
        reference: an `.onnx`, or a checkpoint; then the outputs of its modules are compared.
        candidate: an `.onnx` made from the same model.
        images: uint8 `(n, H, W, 3)`, or float images as both take them; a few are enough.
        threshold: relative error beyond which a node counts as divergent; None takes the limit
            of the candidate's precision.
        reference_options, candidate_options: devices and providers.
        emulate_fp16: round float16 on the CPU as hardware does; see `open_rounding`.

    Raises:
        UsageError: the candidate is no `.onnx`, the two have no value in common, or OpenVINO is
            asked for, which shows no inner values.
        DataError: there is no image.
    """
    reference, candidate = Path(reference), Path(candidate)
    if kind_of(candidate) is not ONNX:
        raise UsageError(
            f"the search along the graph needs an .onnx as the candidate, got {candidate}; "
            "a checkpoint can only be the reference"
        )
    if not len(images):
        raise DataError("a comparison needs at least one image, got none")
    if "openvino" in (reference_options.runtime, candidate_options.runtime):
        raise UsageError(
            "the search along the graph runs it in ONNX Runtime, because OpenVINO fuses its nodes; "
            "leave out the runtime openvino"
        )
    spec, precision = _agreement(reference, reference_options, candidate, candidate_options)
    model = load_graph(candidate)
    graph = trace(model)
    with _reference_probe(reference, graph, spec, reference_options, emulate_fp16) as first:
        names = [name for name in _comparable(graph) if name in first.names]
        if set(names) <= set(COMPARABLE):  # the outputs alone
            raise UsageError(
                f"{reference} and {candidate} have no inner value in common; they must come from "
                "the same checkpoint, exported by the same version"
            )
        with OnnxProbe(model, names, spec, candidate_options, emulate_fp16) as second:
            errors = _accumulate(first, second, images)
    nodes = _node_errors(graph, errors)
    limit = tolerances_for(precision).max_layer_error if threshold is None else threshold
    return LayerReport(str(reference), str(candidate), len(images), limit, nodes)


@dataclass
class _RunningError:
    """Sums over batches of one value's squared error and squared size.

    Args:
        centered: measure sizes as distances from the reference's mean.
        floor: smallest size of a number.
    """

    centered: bool = False
    floor: float = 0.0
    squared_error: float = 0.0
    squared_size: float = 0.0
    max_absolute: float = 0.0
    non_finite: int = 0

    def add(self, expected: np.ndarray, found: np.ndarray) -> None:
        with np.errstate(invalid="ignore", over="ignore"):
            difference = np.abs(found.astype(np.float64) - expected)
        difference[np.isnan(difference)] = np.inf
        self.squared_error += float(np.square(difference).sum())
        center = expected.mean(dtype=np.float64) if self.centered else 0.0
        size = float(np.square(expected.astype(np.float64) - center).sum())
        self.squared_size += max(size, self.floor**2 * expected.size)
        self.max_absolute = max(self.max_absolute, float(difference.max(initial=0)))
        self.non_finite += int((~np.isfinite(found)).sum())

    @property
    def relative(self) -> float:
        """RMS of the error over RMS of the reference; infinite if only the latter is 0."""
        if self.squared_error == 0:
            return 0.0
        return (
            float(np.sqrt(self.squared_error / self.squared_size)) if self.squared_size else np.inf
        )


def _agreement(
    reference: Path,
    reference_options: SessionOptions,
    candidate: Path,
    candidate_options: SessionOptions,
) -> tuple[PreprocessingSpec | None, str]:
    """Return how images are prepared for both, and the candidate's precision."""
    with (
        open_with(reference, reference_options) as first,
        open_with(candidate, candidate_options) as second,
    ):
        return shared_preprocessing(first, second), second.info.precision


def _reference_probe(
    path: Path,
    graph: TracedGraph,
    spec: PreprocessingSpec | None,
    options: SessionOptions,
    emulate_fp16: bool,
) -> Probe:
    """Open the reference so that it returns the values that the candidate's graph has too."""
    if kind_of(path) is not ONNX:
        from gsp_deploy.parity.layers.torch_probe import TorchProbe  # needs torch

        return TorchProbe(path, graph, options)
    model = load_graph(path)
    own = trace(model)
    shared = {value.name for value in graph.values} & set(_comparable(own))
    if _solvers(own) != _solvers(graph):
        shared.discard(_SOLVER_START)  # the same name for two ways to begin
    names = [value.name for value in own.values if value.name in shared]
    return OnnxProbe(model, names, spec, options, emulate_fp16)


def _comparable(graph: TracedGraph) -> list[str]:
    """Return the values worth comparing.

    Of a solver's step only the result is: after convergence, the distance from the root and its
    sign are noise around zero in every precision. No value inside the certified solver is: two
    precisions may sweep into neighbouring cells and still end at the same root.
    """
    settled = (value.name for value in graph.values if value.name not in _UNSETTLED)
    steps = ((name, _SOLVER_STEP.match(name)) for name in settled)
    return [
        name
        for name, step in steps
        if step is None or (step["solver"] in ("newton", "fixed_point") and step["value"] == "beta")
    ]


def _solvers(graph: TracedGraph) -> set[str]:
    steps = (_SOLVER_STEP.match(value.name) for value in graph.values)
    return {step["solver"] for step in steps if step and step["solver"]}


def _accumulate(reference: Probe, candidate: Probe, images: np.ndarray) -> dict[str, _RunningError]:
    errors: dict[str, _RunningError] = {}
    for batch in _batches(images, {reference.batch, candidate.batch} - {None}):
        expected, found = reference.run(batch), candidate.run(batch)
        for name, values in found.items():
            if name in expected and expected[name].shape == values.shape:
                errors.setdefault(name, _nothing_yet(name)).add(expected[name], values)
    return errors


def _nothing_yet(name: str) -> _RunningError:
    if name in _CENTERED:
        return _RunningError(centered=True, floor=SMALLEST_SHARE_SPREAD)
    return _RunningError(floor=_LOGIT_SCALE if _LOGIT.match(name) else 0.0)


def _batches(images: np.ndarray, fixed: set[int | None]) -> Iterator[np.ndarray]:
    """Yield batches; if a graph has a fixed size, the last one is filled up from the start."""
    if len(fixed) > 1:
        raise UsageError(
            f"the two graphs have different fixed batch sizes, {sorted(map(str, fixed))}; "
            "export them with the same"
        )
    size = next(iter(fixed), None)
    for start in range(0, len(images), size or CHUNK):
        if size is None:
            yield images[start : start + CHUNK]
        else:
            yield np.take(images, range(start, start + size), axis=0, mode="wrap")


def _node_errors(graph: TracedGraph, errors: dict[str, _RunningError]) -> tuple[NodeError, ...]:
    """Return the errors in the graph's order, each with its growth over the node's inputs."""
    sources = graph.nearest(set(errors))
    return tuple(
        _node_error(value, errors[value.name], [errors[name] for name in sources[value.name]])
        for value in graph.values
        if value.name in errors
    )


def _node_error(value: TracedValue, error: _RunningError, inputs: list[_RunningError]) -> NodeError:
    before = max((source.relative for source in inputs), default=0.0)
    # An infinite error cannot grow.
    growth = 0.0 if np.isinf(before) else max(0.0, error.relative - before)
    return NodeError(
        value=value.name,
        node=value.node,
        op=value.op,
        module=value.module,
        error=error.relative,
        growth=growth,
        max_absolute=error.max_absolute,
        non_finite=error.non_finite,
    )

"""What was measured of an exported model when it was made: its solver, and what int8 cost."""

from __future__ import annotations

from dataclasses import dataclass

from gsp_deploy.base.words import counted

# Relative weight error below which a solver counts as converged.
CONVERGED = 1e-3


@dataclass(frozen=True)
class WeightGuarantee:
    """What is proved of an exported solver for every input, and never measured on images.

    Attributes:
        weight_error: a bound on |w - w*| for any input, weights having mean 1: method, and rounding
            to float32 in costs, solver and weights.
        solver_error: the part of it that is left if the log-masses are exact.
        method_error: a bound on the worst weight error relative to the image's spread of weights,
            in exact arithmetic.
        log_mass_range: max l - min l over all inputs, from the entropy weight and the prototypes.
        log_mass_error: what rounding of the costs to float32 moves a log-mass by at most.
        locations: the largest number of locations that `weight_error` holds for.
    """

    weight_error: float
    solver_error: float
    method_error: float
    log_mass_range: float
    log_mass_error: float
    locations: int


@dataclass(frozen=True)
class SolverCertificate:
    """What is known of an exported solver: measured on images, and where there is one, a proof.

    What was measured is against a float64 root, on the calibration images and on no others.

    Attributes:
        solver: `certified`, `newton`, `fixed-point`, or `exact` for a transport ratio of 1.
        steps: unrolled solver steps.
        tolerance: the bound on the error relative to the spread that chose the steps; None when
            the steps were asked for.
        images: how many calibration images were used.
        calibration: where they came from.
        worst_marginal_error: max over images of |mean_i w_i - 1|.
        worst_weight_error: max over images and locations of |w - w*|, weights having mean 1.
        worst_relative_weight_error: the same divided by the image's spread max w* - min w*, or by
            4e-3 / mu where that is more: less of a spread is rounding to float32.
        grid_points: points of the sweep of `certified`; 0 for the others.
        guarantee: what holds for every input; None where nothing is proved, so that the figures
            above are all there is.
    """

    solver: str
    steps: int
    tolerance: float | None
    images: int
    calibration: str
    worst_marginal_error: float
    worst_weight_error: float
    worst_relative_weight_error: float
    grid_points: int = 0
    guarantee: WeightGuarantee | None = None

    @property
    def is_converged(self) -> bool:
        """Whether the weights are the transport problem's, to a thousandth of their spread.

        A guarantee of the method says so for every input, the measurement for its images alone.
        """
        return self.worst_relative_weight_error <= CONVERGED

    @property
    def steps_in_words(self) -> str:
        """Return the solver and its steps, such as `certified, 29 points and 2 steps`."""
        steps = counted(self.steps, "step")
        if self.grid_points:
            return f"{self.solver}, {counted(self.grid_points, 'point')} and {steps}"
        return f"{self.solver}, {steps}"

    @property
    def guarantee_in_words(self) -> str:
        """Return what is proved for every input, or that nothing is."""
        if self.guarantee is None:
            return f"none: measured on {counted(self.images, 'image')}"
        proved = self.guarantee
        return (
            f"weights within {proved.weight_error:.1e} for any input, float32 rounding included "
            f"(up to {proved.locations:,} locations); the method within {proved.method_error:.1e} "
            "of their spread"
        )

    @property
    def measured_in_words(self) -> str:
        """Return what was measured, and on what."""
        return (
            f"weights within {self.worst_weight_error:.1e}, {self.worst_relative_weight_error:.1e} "
            f"of their spread; measured on {counted(self.images, 'image')} ({self.calibration})"
        )


@dataclass(frozen=True)
class FloatLayer:
    """A layer that quantisation left in float32, and why.

    Attributes:
        layer: the PyTorch module.
        node: the ONNX node.
        operator: its type.
        sensitivity: what the layer does to the embedding when it alone is in int8: the error's
            root mean square relative to the embeddings' own spread.
    """

    layer: str
    node: str
    operator: str
    sensitivity: float


@dataclass(frozen=True)
class QuantisationTrial:
    """The score that one attempt had, with so many of the most sensitive layers in float32."""

    float_layers: int
    score: float


@dataclass(frozen=True)
class QuantisationRecord:
    """How a backbone came to int8 and what retrieval lost by it. Scores are points of 100.

    Attributes:
        method: how activation ranges were found: `min-max`, `percentile` or `entropy`.
        calibration: the images they were found on.
        layers: how many layers could be quantised.
        float_layers: those of them that were left in float32, the most sensitive first.
        measure: `MAP@R`, or `cosine`: the mean cosine of the embeddings to float32's, about
            their mean, where the validation images have no classes.
        validation: the images that were searched among themselves.
        float32_score: the score of the float32 model.
        score: the score of the model as it was written.
        neighbour_overlap: share of the 10 nearest neighbours that both find, in points.
        max_drop: the drop that was allowed.
        trials: every attempt that was scored, by the number of layers left in float32.
        notes: what a reader of the figures should know.
    """

    method: str
    calibration: str
    layers: int
    float_layers: tuple[FloatLayer, ...]
    measure: str
    validation: str
    float32_score: float
    score: float
    neighbour_overlap: float
    max_drop: float
    trials: tuple[QuantisationTrial, ...]
    notes: tuple[str, ...] = ()

    @property
    def drop(self) -> float:
        """Points lost against float32; below 0 where int8 happens to score higher."""
        return self.float32_score - self.score

    @property
    def passed(self) -> bool:
        """Whether the drop is within what was allowed."""
        return self.drop <= self.max_drop

"""Records of an export: what is proved and measured of its solver, and the loss by int8."""

from __future__ import annotations

from dataclasses import dataclass

from gsp_deploy.base.words import counted

# Relative weight error below which a solver counts as converged.
CONVERGED = 1e-3


@dataclass(frozen=True)
class WeightGuarantee:
    """Bounds on an exported solver that are proved for every input, not measured on images.

    Attributes:
        weight_error: a bound on |w - w*| for any input, for weights of mean 1. It includes the
            method, and rounding to float32 in costs, solver and weights.
        solver_error: the same bound if the log-masses are exact.
        method_error: a bound on the worst weight error relative to the image's spread of weights,
            in exact arithmetic.
        log_mass_range: max l - min l over all inputs, from the entropy weight and the prototypes.
        log_mass_error: the most that rounding of the costs to float32 moves a log-mass.
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
    """What is known of an exported solver: measurements on images and, if there is one, a proof.

    The measurements compare with a float64 root, and hold for the calibration images only.

    Attributes:
        solver: `certified`, `newton`, `fixed-point`, or `exact` for a transport ratio of 1.
        steps: unrolled solver steps.
        tolerance: the allowed error relative to the spread, which decided the steps; None if you
            set the number of steps.
        images: the number of calibration images.
        calibration: where they came from.
        worst_marginal_error: max over images of |mean_i w_i - 1|.
        worst_weight_error: max over images and locations of |w - w*|, for weights of mean 1.
        worst_relative_weight_error: the same divided by the image's spread max w* - min w*, or by
            4e-3 / mu if that is larger, because a smaller spread is float32 rounding.
        grid_points: points of the sweep of `certified`; 0 for the others.
        guarantee: the bounds for every input; None if nothing is proved and only the figures
            above are known.
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
        """Whether the weights solve the transport problem, to a thousandth of their spread.

        A guarantee shows this for every input; a measurement shows it for its images only.
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
        """Return the proved bounds in words, or that nothing is proved."""
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
        """Return the measurements in words, and the images that they were taken on."""
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
        sensitivity: the error in the embedding when only this layer is in int8: its root mean
            square, relative to the embeddings' own spread.
    """

    layer: str
    node: str
    operator: str
    sensitivity: float


@dataclass(frozen=True)
class QuantisationTrial:
    """The score of one attempt, and its number of most sensitive layers left in float32."""

    float_layers: int
    score: float


@dataclass(frozen=True)
class QuantisationRecord:
    """How a backbone was quantised to int8, and what retrieval lost. Scores are points of 100.

    Attributes:
        method: how activation ranges were found: `min-max`, `percentile` or `entropy`.
        calibration: the images that the ranges were found on.
        layers: the number of layers that could be quantised.
        float_layers: the layers among them that stayed in float32, the most sensitive first.
        measure: `MAP@R`, or `cosine`: the mean cosine of the embeddings to float32's, about
            their mean, if the validation images have no classes.
        validation: the images; each was searched for among the others.
        float32_score: the score of the float32 model.
        score: the score of the model as it was written.
        neighbour_overlap: share of the 10 nearest neighbours that both models find, in points.
        max_drop: the allowed drop.
        trials: every attempt that was scored, by the number of layers left in float32.
        notes: remarks for the reader of the figures.
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
        """Points lost against float32; below 0 if int8 happens to score higher."""
        return self.float32_score - self.score

    @property
    def passed(self) -> bool:
        """Whether the drop is at most the allowed one."""
        return self.drop <= self.max_drop

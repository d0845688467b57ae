"""The manifest that stands beside an exported model and inside it: what it is and what was proven.

The same JSON is in the ONNX file's metadata under `METADATA_KEY` (without the file's own hash,
which only the sidecar can hold) and in the sidecar `<model>.json`.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gsp_deploy.config import ModelConfig, PreprocessingSpec
from gsp_deploy.errors import ConfigError, ModelFileError, brief, reason_of
from gsp_deploy.fields import DocumentFormat, from_fields
from gsp_deploy.files import refuse_overwrite, sha256_of, write_text
from gsp_deploy.pooling_node import POOLING_FORMS, PoolingForm

FORMAT = DocumentFormat(
    "format", 1, "a manifest", "the manifest", "export the model again with this version"
)
METADATA_KEY = "gsp_deploy.manifest"
# Relative weight error below which a solver counts as converged.
CONVERGED = 1e-3
# How torch writes a size that follows from another by convolutions with strides.
_ROUNDED_UP = re.compile(r"\(*(\w+) - 1\)*//(\d+)\)* \+ 1")


@dataclass(frozen=True)
class SolverCertificate:
    """What was measured of an exported solver on calibration images, against a float64 root.

    Attributes:
        solver: `newton`, `fixed-point`, or `exact` for a transport ratio of 1.
        steps: unrolled solver steps.
        tolerance: the bound on `worst_relative_weight_error` that chose the steps; None when
            the steps were asked for and not searched.
        images: how many calibration images were used.
        calibration: where they came from.
        worst_marginal_error: max over images of |mean_i w_i - 1|.
        worst_weight_error: max over images and locations of |w - w*|, weights having mean 1.
        worst_relative_weight_error: the same divided by the image's spread max w* - min w*.
    """

    solver: str
    steps: int
    tolerance: float | None
    images: int
    calibration: str
    worst_marginal_error: float
    worst_weight_error: float
    worst_relative_weight_error: float

    @property
    def is_converged(self) -> bool:
        """Whether the weights are the transport problem's, to a thousandth of their spread."""
        return self.worst_relative_weight_error <= CONVERGED


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


@dataclass(frozen=True)
class TensorSpec:
    """One input or output: its name, element type, and shape with names for dynamic sizes."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", tuple(self.shape))

    def __str__(self) -> str:
        """Return it in words, such as `images float32 (batch, 3, height, width)`."""
        return f"{self.name} {self.dtype} {shape_in_words(self.shape)}"


def shape_in_words(shape: Sequence[int | str]) -> str:
    """Return a shape as `(batch, 3, ceil(height/8))`, whatever the exporter calls such a size."""
    sizes = [_ROUNDED_UP.sub(r"ceil(\1/\2)", str(size)) for size in shape]
    return f"({', '.join(sizes)})"


@dataclass(frozen=True)
class ExportManifest:
    """Everything a user of an exported model needs to know about it.

    Attributes:
        model: backbone, head and pre-processing.
        precision: `fp32`, `fp16`, `bf16` or `int8`: what the backbone computes in.
        opset: version of the ONNX operator set.
        inputs, outputs: tensors of the graph.
        includes_preprocessing: the graph takes uint8 `(B, H, W, 3)` and normalises it itself.
        certificate: proof of the solver; None for the baselines.
        pooling_form: how the pooling is written: `unrolled` into standard operators, `plugin` for
            one node with the unrolled form as its body, `plugin-bare` for the node alone.
        kept_in_float32: operators that the precision's conversion left in float32, and why.
        versions: packages that took part.
        source_sha256: hash of the checkpoint, when the model came from a file.
        provenance: licence, data and command of the weights, as the checkpoint tells them.
        external_data: name of the file beside the model that holds its weights, if there is one.
        quantisation: how the backbone came to int8; None for the other precisions.
        sha256: hash of the model file; only in the sidecar.
    """

    model: ModelConfig
    precision: str
    opset: int
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    includes_preprocessing: bool
    certificate: SolverCertificate | None
    pooling_form: PoolingForm = "unrolled"
    kept_in_float32: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    source_sha256: str | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)
    external_data: str | None = None
    quantisation: QuantisationRecord | None = None
    sha256: str | None = None

    def __post_init__(self) -> None:
        if self.pooling_form not in POOLING_FORMS:
            raise ConfigError(
                f"pooling_form must be one of {', '.join(POOLING_FORMS)}, "
                f"got {brief(self.pooling_form)}"
            )
        name = self.external_data
        if name is not None and (not isinstance(name, str) or not name or Path(name).name != name):
            raise ConfigError(
                f"external_data must be the name of a file beside the model, got {brief(name)}"
            )

    @property
    def preprocessing(self) -> PreprocessingSpec | None:
        """How an image file becomes the network's input."""
        return self.model.preprocessing

    def to_json(self) -> str:
        """Return the manifest as indented JSON with sorted keys."""
        return FORMAT.to_text({**dataclasses.asdict(self), "model": self.model.to_dict()})

    @classmethod
    def from_json(cls, text: str, source: str | os.PathLike[str]) -> ExportManifest:
        """Parse what `to_json` wrote.

        Raises:
            ModelFileError: the text is not a manifest of this format; `source` names it.
        """
        return FORMAT.from_text(text, source, lambda data: from_fields(cls, _typed(data)))


def sidecar_path(model: str | os.PathLike[str]) -> Path:
    """Return where the manifest of a model file stands: `<model>.json`."""
    path = Path(model)
    return path.with_name(path.name + ".json")


def refuse_model_overwrite(model: Path, force: bool) -> None:
    """Raise `UsageError` when a model or its manifest exists and `force` was not given."""
    for file in (model, sidecar_path(model)):
        refuse_overwrite(file, force)


def write_sidecar(manifest: ExportManifest, model: str | os.PathLike[str]) -> Path:
    """Write the manifest beside the model and return its path."""
    path = sidecar_path(model)
    write_text(path, manifest.to_json() + "\n")
    return path


def read_sidecar(model: str | os.PathLike[str]) -> ExportManifest | None:
    """Return the manifest beside a model, or None where there is none.

    Raises:
        ModelFileError: it is there but damaged.
    """
    text = sidecar_text(model, "the manifest")
    return None if text is None else ExportManifest.from_json(text, sidecar_path(model))


def check_described(manifest: ExportManifest, model: str | os.PathLike[str]) -> None:
    """Raise `ModelFileError` where the manifest beside a model describes another file."""
    path, beside = Path(model), sidecar_path(model)
    if manifest.sha256 not in (None, sha256_of(path)):
        raise ModelFileError(
            f"{path} is not the file that {beside.name} describes (its SHA-256 differs): copy both "
            f"again, together; if the model was changed on purpose, delete {beside.name}"
        )


def sidecar_text(model: str | os.PathLike[str], what: str) -> str | None:
    """Return what stands beside a model, or None where there is nothing; `what` names it in errors.

    Raises:
        ModelFileError: it is there but cannot be read.
    """
    path = sidecar_path(model)
    if not path.is_file():
        return None
    try:
        return path.read_text(encoding="utf-8")
    except (UnicodeDecodeError, OSError) as error:
        raise ModelFileError(f"{path}: {what} is damaged ({reason_of(error)})") from error


def _typed(data: dict[str, Any]) -> dict[str, Any]:
    """Turn the nested plain data into the dataclasses that the fields hold."""
    fields = dict(data)
    fields["model"] = ModelConfig.from_dict(fields["model"])
    for name in ("inputs", "outputs"):
        fields[name] = tuple(from_fields(TensorSpec, tensor) for tensor in fields[name])
    if fields.get("certificate") is not None:
        fields["certificate"] = from_fields(SolverCertificate, fields["certificate"])
    if fields.get("quantisation") is not None:
        fields["quantisation"] = _quantisation(fields["quantisation"])
    return fields


def _quantisation(data: Mapping[str, Any]) -> QuantisationRecord:
    layers = tuple(from_fields(FloatLayer, layer) for layer in data["float_layers"])
    trials = tuple(from_fields(QuantisationTrial, trial) for trial in data["trials"])
    notes = tuple(data["notes"])
    nested = {"float_layers": layers, "trials": trials, "notes": notes}
    return from_fields(QuantisationRecord, {**data, **nested})

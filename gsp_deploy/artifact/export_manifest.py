"""The manifest of an exported model, as JSON that can be parsed again."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gsp_deploy.artifact.evidence import QuantisationRecord, SolverCertificate
from gsp_deploy.artifact.pooling_node import POOLING_FORMS, PoolingForm
from gsp_deploy.artifact.tensors import TensorSpec
from gsp_deploy.base.schema import DocumentFormat, from_fields
from gsp_deploy.config import ModelConfig, PreprocessingSpec
from gsp_deploy.errors import ConfigError, brief

FORMAT = DocumentFormat(
    "format", 1, "a manifest", "the manifest", "export the model again with this version"
)
METADATA_KEY = "gsp_deploy.manifest"


@dataclass(frozen=True)
class ExportManifest:
    """Everything that you need to know to use an exported model.

    Attributes:
        model: backbone, head and pre-processing.
        precision: the backbone's precision: `fp32`, `fp16`, `bf16` or `int8`.
        opset: version of the ONNX operator set.
        inputs, outputs: tensors of the graph.
        includes_preprocessing: the graph takes uint8 `(B, H, W, 3)` and normalises it itself.
        certificate: what is proved and what was measured of the solver; None for the baselines.
        pooling_form: how the pooling is written: `unrolled` into standard operators, `plugin` for
            one node with the unrolled form as its body, `plugin-bare` for the node alone.
        kept_in_float32: operators that the precision's conversion left in float32, and why.
        versions: the versions of the packages that the export used.
        source_sha256: hash of the checkpoint, if the model came from a file.
        provenance: licence, data and training command of the weights, from the checkpoint.
        external_data: name of the file beside the model that holds its weights, if there is one.
        quantisation: the record of the quantisation to int8; None for the other precisions.
        further_certificates: those of a network's other GSP layers, in the order of the layers.
        sha256: `identity` of the model, its external data included; only in the sidecar.
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
    further_certificates: tuple[SolverCertificate, ...] = ()
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
        return FORMAT.from_text(text, source, lambda data: from_fields(cls, data))

"""The manifest of a model, beside the file and inside it: its settings, measurements and proofs.

The same JSON is in the sidecar `<model>.json` and in the ONNX file's metadata under
`METADATA_KEY`. Only the sidecar can contain the file's own hash.
"""

from __future__ import annotations

from gsp_deploy.artifact.evidence import (
    CONVERGED,
    FloatLayer,
    QuantisationRecord,
    QuantisationTrial,
    SolverCertificate,
    WeightGuarantee,
)
from gsp_deploy.artifact.export_manifest import (
    METADATA_KEY,
    ExportManifest,
)
from gsp_deploy.artifact.sidecar import (
    check_described,
    read_sidecar,
    refuse_model_overwrite,
    sidecar_path,
    sidecar_text,
    write_sidecar,
)
from gsp_deploy.artifact.tensors import (
    TensorSpec,
    shape_in_words,
)

__all__ = [
    "CONVERGED",
    "METADATA_KEY",
    "ExportManifest",
    "FloatLayer",
    "QuantisationRecord",
    "QuantisationTrial",
    "SolverCertificate",
    "TensorSpec",
    "WeightGuarantee",
    "check_described",
    "read_sidecar",
    "refuse_model_overwrite",
    "shape_in_words",
    "sidecar_path",
    "sidecar_text",
    "write_sidecar",
]

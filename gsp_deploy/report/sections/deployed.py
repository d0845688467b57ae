"""The section on what was deployed: form, precision, tensors, and the hash of each file."""

from __future__ import annotations

from collections.abc import Sequence

from gsp_deploy.artifact import TensorSpec
from gsp_deploy.config import GSPConfig
from gsp_deploy.report.content import Section, Table
from gsp_deploy.report.documents import Documents, NamedArtifact
from gsp_deploy.report.figures import DASH

_DIGITS = 12


def deployed(documents: Documents) -> Section | None:
    """Describe the artifacts with manifests; None if there are none."""
    if not documents.artifacts:
        return None
    columns = ("artifact", "form", "precision", "input", "outputs", "SHA-256")
    table = Table("", columns, tuple(_row(artifact) for artifact in documents.artifacts))
    return Section("What was deployed", _models(documents.artifacts), (table,))


def _row(artifact: NamedArtifact) -> tuple[str, ...]:
    engine, export, manifest = artifact.engine, artifact.export, artifact.manifest
    form = "ONNX" if engine is None else f"{engine.flavour} {engine.tensorrt_version}"
    if export is not None and export.pooling_form != "unrolled":
        form += f", pooling as {export.pooling_form}"
    precision = DASH if export is None else export.precision
    digest = None if export is None else export.sha256
    if engine is not None:
        precision, digest = engine.precision.asked, engine.plan_sha256
    return (
        artifact.name,
        form,
        precision,
        _sizes(manifest.inputs),
        ", ".join(output.name for output in manifest.outputs),
        DASH if digest is None else digest[:_DIGITS],
    )


def _sizes(inputs: Sequence[TensorSpec]) -> str:
    return ", ".join(f"{spec.dtype} {' × '.join(map(str, spec.shape))}" for spec in inputs)


def _models(artifacts: Sequence[NamedArtifact]) -> str:
    """Describe the artifacts' models and their pooling."""
    found = dict.fromkeys(_model(artifact) for artifact in artifacts if artifact.export)
    return "; ".join(found) + "." if found else ""


def _model(artifact: NamedArtifact) -> str:
    assert artifact.export is not None
    model = artifact.export.model
    if not isinstance(model.head, GSPConfig):
        return f"{model.backbone} with {model.head.in_words}"
    head = model.head
    return (
        f"{model.backbone} with Generalized Sum Pooling: {head.num_prototypes} prototypes, "
        f"{head.embedding_dim}-dimensional embedding, kept share μ = {head.transport_ratio:g}, "
        f"sharpness γ = {head.entropy_weight:g}"
    )

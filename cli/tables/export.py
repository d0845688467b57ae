"""Print what `gsp-deploy export` wrote."""

from __future__ import annotations

from json import loads
from typing import TYPE_CHECKING

from gsp_deploy.base.words import counted, drop_in_words
from gsp_deploy.config import AdoptedHead, GSPConfig
from gsp_deploy_cli.options.reference import settings_in_words
from gsp_deploy_cli.tables import show

if TYPE_CHECKING:
    from gsp_deploy.artifact import ExportManifest, QuantisationRecord, SolverCertificate
    from gsp_deploy.artifact.artifact import Artifact
    from gsp_deploy.config import PreprocessingSpec


_POOLING = {
    "plugin": "one node, for the plugin; without it the unrolled form in it runs",
    "plugin-bare": "one bare node, for TensorRT with the plugin only",
}


def report(exported: Artifact[ExportManifest], json: bool, document: str = "export") -> None:
    """Print the manifest as a JSON document, or its most important entries as tables."""
    manifest = exported.manifest
    for certificate in (manifest.certificate, *manifest.further_certificates):
        if certificate is not None and not certificate.is_converged:
            show.note(_not_converged(certificate))
    if json:
        show.document(
            document,
            {"path": str(exported.path), "manifest": loads(manifest.to_json())},
        )
        return
    rows = [
        ("model", f"{manifest.model.backbone}, {manifest.precision}, opset {manifest.opset}"),
        *(("input", str(tensor)) for tensor in manifest.inputs),
        *(("output", str(tensor)) for tensor in manifest.outputs),
    ]
    head, spec = manifest.model.head, manifest.preprocessing
    if isinstance(head, GSPConfig):
        rows.append(("head", settings_in_words(head)))
    if isinstance(head, AdoptedHead) and spec is not None:
        rows += [("images", _prepared(spec)), ("mean, std", _normalised(manifest, spec))]
    if manifest.pooling_form != "unrolled":
        rows.append(("pooling", _POOLING[manifest.pooling_form]))
    if certificate := manifest.certificate:
        rows += [
            ("solver", certificate.steps_in_words),
            ("guarantee", certificate.guarantee_in_words),
            ("measured", certificate.measured_in_words),
            ("|mean w - 1|", f"{certificate.worst_marginal_error:.1e} at worst on those"),
        ]
    for number, further in enumerate(manifest.further_certificates, start=2):
        rows.append((f"guarantee {number}", f"{further.guarantee_in_words} (GSP layer {number})"))
    rows += [("kept in fp32", reason) for reason in manifest.kept_in_float32.values()]
    show.facts(f"{exported.path}", rows)
    if manifest.quantisation is not None:
        _report_quantisation(manifest.quantisation)


def _prepared(spec: PreprocessingSpec) -> str:
    words = ["stretched"] if spec.resize == "stretch" else []
    if spec.crops:
        words.append(f"cropped at {spec.crop_ratio:g}")
    crop = " and ".join(words)
    return f"{spec.height}x{spec.width}, {spec.interpolation}, {crop}, as {spec.pipeline} does"


def _normalised(manifest: ExportManifest, spec: PreprocessingSpec) -> str:
    if manifest.includes_preprocessing:
        return "the network takes pixels and normalises them itself"
    return f"{_three(spec.mean)}, {_three(spec.std)}"


def _three(values: tuple[float, float, float]) -> str:
    return " ".join(f"{value:.4g}" for value in values)


def _not_converged(certificate: SolverCertificate) -> str:
    error = certificate.worst_relative_weight_error
    return (
        f"note: after {counted(certificate.steps, f'{certificate.solver} step')} the weights are "
        f"wrong by up to {100 * error:.2g} % of their spread on the calibration images; "
        "the default solver without --iterations takes enough for every input"
    )


def _report_quantisation(record: QuantisationRecord) -> None:
    kept, measure = len(record.float_layers), record.measure
    rows = [
        ("int8", f"{record.layers - kept} of {counted(record.layers, 'layer')}, {kept} in fp32"),
        ("ranges", f"{record.method} over {record.calibration}"),
        (
            measure,
            f"{record.score:.2f} against {record.float32_score:.2f} in fp32, "
            f"{drop_in_words(record.drop)} where {record.max_drop:g} is allowed, "
            f"on {record.validation}",
        ),
        ("neighbours", f"{record.neighbour_overlap:.1f} % of the 10 nearest are fp32's"),
    ]
    show.facts("quantisation", rows)
    if kept:
        scores = {trial.float_layers: f"{trial.score:.2f}" for trial in record.trials}
        show.table(
            "layers in fp32, the most sensitive first",
            ("layer", "operator", "error alone", f"{measure} down to here"),
            [("none", "", "", scores[0])]
            + [
                (layer.layer, layer.operator, f"{100 * layer.sensitivity:.2f} %", scores.get(i, ""))
                for i, layer in enumerate(record.float_layers, start=1)
            ],
        )
        show.note(
            "error alone: the embedding's, relative to its spread over images, with this layer "
            "the only one in int8"
        )
    for note in record.notes:
        show.remark(note)


def check_drop(exported: Artifact[ExportManifest]) -> None:
    """Raise if int8 lost more accuracy than allowed; the best attempt has been written."""
    from gsp_deploy.errors import GateError

    record = exported.manifest.quantisation
    if record is not None and not record.passed:
        raise GateError(
            f"{record.measure} drops by {record.drop:.3g} points at best, with "
            f"{len(record.float_layers)} of {counted(record.layers, 'layer')} in fp32, and "
            f"--max-drop allows {record.max_drop:g}; {exported.path} holds that attempt: "
            "accept it with a larger --max-drop, or try another --calibration-method or more images"
        )

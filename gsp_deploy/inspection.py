"""Describe a file from its content: a checkpoint, an exported model, an engine or a manifest."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gsp_deploy.artifact import (
    METADATA_KEY,
    ExportManifest,
    SolverCertificate,
    check_described,
    read_sidecar,
    shape_in_words,
    sidecar_path,
)
from gsp_deploy.artifact.engine_manifest import (
    EngineManifest,
    check_plan,
    read_engine_sidecar,
)
from gsp_deploy.artifact.identity import identity
from gsp_deploy.artifact.kind import CHECKPOINT, ENGINE, ONNX, endings, kind_of
from gsp_deploy.artifact.pooling_node import HEAD_PREFIX
from gsp_deploy.base.files import sha256_of
from gsp_deploy.base.words import counted
from gsp_deploy.config import SOLVER_SETTINGS, AdoptedHead, GSPConfig
from gsp_deploy.engine.machine import Machine, misfits
from gsp_deploy.errors import ModelFileError, UsageError, reason_of


@dataclass(frozen=True)
class Inspection:
    """The description of a file.

    Attributes:
        path: the file.
        kind: kind of file, in words.
        size: size in bytes.
        sha256: its `identity`: the hash of its bytes and of the files that belong to it.
        facts: sections of plain data: model, tensors, certificate, operators...
        warnings: problems, such as a manifest of another file.
    """

    path: Path
    kind: str
    size: int
    sha256: str
    facts: Mapping[str, Any]
    warnings: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON-able data."""
        return {**dataclasses.asdict(self), "path": str(self.path)}


def inspect_file(path: Path) -> Inspection:
    """Describe an artifact.

    Raises:
        UsageError: the suffix is not one of gsp-deploy.
        ModelFileError, CheckpointError: the file is missing or damaged.
    """
    if not path.is_file():
        raise ModelFileError(f"{path}: no such file")
    kind, facts, warnings = _read(path)
    try:
        digest = identity(path)
    except ModelFileError as error:  # its weights are missing; the rest can still be shown
        digest, warnings = sha256_of(path), tuple(dict.fromkeys([*warnings, str(error)]))
    return Inspection(path, kind, path.stat().st_size, digest, facts, warnings)


def _read(path: Path) -> tuple[str, dict[str, Any], tuple[str, ...]]:
    """Return a file's kind in words, its facts, and warnings."""
    readers = {ONNX: _onnx, CHECKPOINT: _checkpoint, ENGINE: _engine}
    kind = kind_of(path)
    if kind in readers:
        return readers[kind](path)
    if path.suffix == ".json" and kind_of(path.with_suffix("")) is ENGINE:
        engine = read_engine_sidecar(path.with_suffix(""))
        assert engine is not None  # `path` is this manifest
        return "manifest of an engine", _engine_facts(engine), ()
    if path.suffix == ".json":
        export = read_sidecar(path.with_suffix(""))
        assert export is not None  # `path` is this manifest
        return "manifest", _manifest(export), ()
    raise UsageError(
        f"{path}: expected a model ending in {endings(*readers)}, or its .json, "
        f"got {path.suffix or 'no suffix'}"
    )


def _onnx(path: Path) -> tuple[str, dict[str, Any], tuple[str, ...]]:
    import onnx  # only ONNX files need it

    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as error:  # protobuf raises errors of several types
        raise ModelFileError(f"{path}: not a whole ONNX file ({error})") from error
    if not model.graph.node:
        raise ModelFileError(f"{path}: not an ONNX model, its graph is empty")
    try:
        facts, text = _graph_facts(onnx, model)
    except (TypeError, ValueError) as error:  # names that are not UTF-8, or unknown types
        raise ModelFileError(f"{path}: damaged ONNX file ({reason_of(error)})") from error
    if text is None:
        return "ONNX model, not exported by gsp-deploy", facts, ()
    manifest = ExportManifest.from_json(text, path)
    is_adopted = isinstance(manifest.model.head, AdoptedHead)
    kind = "adopted model" if is_adopted else "exported model"
    return kind, {**_manifest(manifest), **facts}, _sidecar_warnings(path)


def _graph_facts(onnx: Any, model: Any) -> tuple[dict[str, Any], str | None]:
    """Return the facts of a graph, and the text of the manifest inside it if there is one."""
    graph = model.graph
    # Up to IR version 3 every weight is listed as an input too.
    weights = {weight.name for weight in graph.initializer}
    head = [node for node in graph.node if node.name.startswith(HEAD_PREFIX)]
    facts: dict[str, Any] = {
        "opset": {entry.domain or "ai.onnx": entry.version for entry in model.opset_import},
        "inputs": [_value(value) for value in graph.input if value.name not in weights],
        "outputs": [_value(value) for value in graph.output],
        "nodes": {"total": len(graph.node), "pooling head": len(head)},
        "operators": dict(Counter(node.op_type for node in graph.node).most_common()),
        "weights": _weights(onnx, graph),
    }
    return facts, {entry.key: entry.value for entry in model.metadata_props}.get(METADATA_KEY)


def _engine(path: Path) -> tuple[str, dict[str, Any], tuple[str, ...]]:
    """Describe an engine from its manifest, because only a machine that runs a plan can read it."""
    manifest = read_engine_sidecar(path)
    if manifest is None:
        missing = (
            f"no manifest next to it ({sidecar_path(path).name}); without one, nothing about the "
            "engine is known"
        )
        return "engine, not built by gsp-deploy", {}, (missing,)
    try:
        check_plan(manifest, path)
    except ModelFileError as error:
        return "engine", _engine_facts(manifest), (str(error),)
    here = Machine.for_plan(manifest)
    warnings = tuple(f"does not run here: {found}" for found in misfits(manifest, here))
    return "engine", _engine_facts(manifest), warnings


def _engine_facts(manifest: EngineManifest) -> dict[str, Any]:
    content = json.loads(manifest.to_json())
    left_out = ("engine_format", "export", "plan_sha256", "plan_bytes")
    facts = {name: value for name, value in content.items() if name not in left_out and value}
    facts["inputs"] = [str(tensor) for tensor in manifest.inputs]
    facts["outputs"] = [str(tensor) for tensor in manifest.outputs]
    facts["profiles"] = [
        f"{name} " + " : ".join("x".join(map(str, shape)) for shape in (r.min, r.opt, r.max))
        for profile in manifest.profiles
        for name, r in profile.items()
    ]
    return facts if manifest.export is None else {**facts, "export": _manifest(manifest.export)}


def _weights(onnx: Any, graph: Any) -> dict[str, int]:
    """Return how many numbers of each type the initializers contain."""
    counts: Counter[str] = Counter()
    for weight in graph.initializer:
        size = 1
        for dim in weight.dims:
            size *= dim
        counts[onnx.TensorProto.DataType.Name(weight.data_type).lower()] += size
    return dict(counts)


def _value(value: Any) -> str:
    tensor = value.type.tensor_type
    sizes = [dim.dim_param or dim.dim_value for dim in tensor.shape.dim]
    return f"{value.name} {shape_in_words(sizes)}"


def _sidecar_warnings(path: Path) -> tuple[str, ...]:
    beside = read_sidecar(path)
    if beside is None:
        name = sidecar_path(path).name
        return (f"no manifest next to it ({name}); the one inside the file is shown",)
    try:
        check_described(beside, path)
    except ModelFileError as error:
        return (str(error),)
    return ()


def _manifest(manifest: ExportManifest) -> dict[str, Any]:
    content = json.loads(manifest.to_json())
    has_transport = manifest.certificate is not None
    kept = (
        "precision",
        *(["pooling_form"] if has_transport else []),  # the form of the transport's solver
        "certificate",
        "further_certificates",
        "quantisation",
        "kept_in_float32",
        "provenance",
        "versions",
    )
    return {
        **_model(manifest),
        **{name: content[name] for name in kept if content[name]},
        **_solver_in_words(manifest.certificate),
        "includes_preprocessing": manifest.includes_preprocessing,
    }


def _model(manifest: ExportManifest) -> dict[str, Any]:
    """Return the model's settings; the solver that it was trained with is apart from the head."""
    model, head = manifest.model.to_dict(), manifest.model.head
    if not isinstance(head, GSPConfig) or manifest.certificate is None:
        return {"model": model}
    kept = {name: value for name, value in model["head"].items() if name not in SOLVER_SETTINGS}
    trained = f"{head.solver}, {counted(head.steps, 'step')}"
    return {"model": {**model, "head": kept}, "trained_with": trained}


def _solver_in_words(certificate: SolverCertificate | None) -> dict[str, str]:
    """Return what solves the transport, what is proved about it and what was measured."""
    if certificate is None:
        return {}
    return {
        "solver": certificate.steps_in_words,
        "guarantee": certificate.guarantee_in_words,
        "measured": certificate.measured_in_words,
    }


def _checkpoint(path: Path) -> tuple[str, dict[str, Any], tuple[str, ...]]:
    from gsp_deploy.checkpoint import read_checkpoint  # needs torch

    contents = read_checkpoint(path)
    facts: dict[str, Any] = {
        "tensors": len(contents.tensors),
        "parameters": sum(tensor.numel() for tensor in contents.tensors.values()),
        "first tensors": [
            f"{name} {list(tensor.shape)}" for name, tensor in list(contents.tensors.items())[:6]
        ],
    }
    if contents.metadata is None:
        return "state dict without settings", facts, ()
    provenance = {k: v for k, v in dataclasses.asdict(contents.metadata.provenance).items() if v}
    described = {"model": contents.metadata.model.to_dict(), "provenance": provenance}
    return "checkpoint", {**described, **facts}, ()

"""Put new weights into a plan that was built stripped or refittable."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from gsp_deploy.artifact import sidecar_path, write_sidecar
from gsp_deploy.artifact.artifact import Artifact
from gsp_deploy.artifact.engine_manifest import (
    EngineManifest,
    check_plan,
    read_engine_sidecar,
)
from gsp_deploy.artifact.identity import identity
from gsp_deploy.artifact.kind import ENGINE
from gsp_deploy.artifact.onnx_manifest import read_onnx_manifest
from gsp_deploy.base.files import replacing_together, sha256_of
from gsp_deploy.engine.api import TensorRT, load_tensorrt
from gsp_deploy.engine.log import last_error, make_log
from gsp_deploy.engine.machine import Machine, check_fits
from gsp_deploy.engine.starting import check_driver, start
from gsp_deploy.errors import GspDeployError, ModelFileError, UsageError


def refit_engine(
    engine: str | os.PathLike[str], source: str | os.PathLike[str], path: str | os.PathLike[str]
) -> Artifact[EngineManifest]:
    """Write a plan in which the weights of an ONNX file replace its own.

    Args:
        engine: a plan that was built with `refit` or `strip_weights`.
        source: an ONNX file of the same network; for a stripped plan, with the same weights that
            it was built from.
        path: where the new plan goes, its manifest beside it.

    Raises:
        ModelFileError: a file is missing or damaged, or the plan takes no new weights.
        MissingCapabilityError: the plan does not fit this machine.
        GspDeployError: TensorRT cannot refit it.
    """
    engine, source, path = Path(engine), Path(source), Path(path)
    manifest = _refittable(engine)
    export = read_onnx_manifest(source)
    machine, tensorrt = Machine.here(manifest.flavour), load_tensorrt(manifest.flavour)
    check_fits(manifest, machine, str(engine))
    if machine.driver is not None:
        check_driver(tensorrt, machine.driver)
    plan = _refit(tensorrt, engine, source)
    with replacing_together(sidecar_path(path), path) as (_, draft):
        draft.write_bytes(plan)
        described = replace(
            manifest,
            plan_sha256=sha256_of(draft),
            plan_bytes=len(plan),
            onnx_name=source.name,
            onnx_sha256=identity(source),
            export=export,
            options={**manifest.options, "strip_weights": False},
            notes=(*manifest.notes, f"refitted from {engine.name}"),
        )
        write_sidecar(described, draft)
    return Artifact(path, ENGINE, described)


def _refittable(engine: Path) -> EngineManifest:
    if not engine.is_file():
        raise ModelFileError(f"{engine}: no such engine file")
    manifest = read_engine_sidecar(engine)
    if manifest is None:
        raise ModelFileError(f"{engine}: it has no manifest beside it; copy {engine.name}.json too")
    check_plan(manifest, engine)
    if not (manifest.options.get("refit") or manifest.options.get("strip_weights")):
        raise UsageError(f"{engine}: its weights are fixed; build it with --refit to change them")
    return manifest


def _refit(tensorrt: TensorRT, engine: Path, source: Path) -> bytes:
    module, log = tensorrt.module, make_log(tensorrt)

    def fail(what: str) -> GspDeployError:
        return GspDeployError(f"{engine}: {tensorrt.name} {what}: {last_error(log)}")

    runtime = start(tensorrt, module.Runtime, log)
    loaded = runtime.deserialize_cuda_engine(engine.read_bytes())
    if loaded is None:
        raise fail("cannot load it")
    refitter = start(tensorrt, module.Refitter, log, loaded)
    parser = module.OnnxParserRefitter(refitter, log)
    if not parser.refit_from_file(str(source)):
        raise fail(f"finds that {source.name} does not contain the weights that this engine needs")
    if missing := list(refitter.get_missing_weights()):
        raise GspDeployError(
            f"{engine}: {source.name} lacks {len(missing)} of its weights, {missing[0]} among them"
        )
    if not refitter.refit_cuda_engine():
        raise fail("cannot put the weights in")
    return _with_weights(module, loaded)


def _with_weights(module: Any, engine: Any) -> bytes:
    config = engine.create_serialization_config()
    config.clear_flag(module.SerializationFlag.EXCLUDE_WEIGHTS)
    return bytes(memoryview(engine.serialize_with_config(config)))

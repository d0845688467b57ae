"""Load a plan file onto the device, and report in one line why it does not fit."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

from gsp_deploy.artifact.engine_manifest import EngineManifest, check_plan, read_engine_sidecar
from gsp_deploy.device import open_device
from gsp_deploy.engine.api import TensorRT, load_tensorrt, runtime_for
from gsp_deploy.engine.log import last_error, make_log
from gsp_deploy.engine.machine import Machine, check_fits
from gsp_deploy.engine.plugins import check_plugin
from gsp_deploy.engine.starting import check_driver, start
from gsp_deploy.errors import ModelFileError, UsageError
from gsp_deploy.runtime.session import SessionOptions
from gsp_deploy.runtime.shared_engine import SharedEngine
from gsp_deploy.runtime.tensorrt_session import TensorRTSession


def open_engine(path: Path, options: SessionOptions) -> TensorRTSession:
    """Open the first session on a plan; its `another` opens more on the same engine.

    Raises:
        ModelFileError: the plan or its manifest is missing or damaged.
        MissingCapabilityError: TensorRT, the GPU, their versions or the plugin are not what the
            plan needs.
        UsageError: an option is not for engines.
    """
    if options.provider is not None:
        raise UsageError(f"{path}: an engine runs in TensorRT itself and takes no provider")
    manifest = _checked_manifest(path, options)
    tensorrt = load_tensorrt(runtime_for(manifest))
    with ExitStack() as undo:
        device = open_device(options.device_index, options.cuda_api)
        undo.callback(device.close)
        check_driver(tensorrt, device.properties().driver)
        with device.current():
            engine = _deserialise(tensorrt, path, manifest, options)
        strategy = tensorrt.module.ExecutionContextAllocationStrategy.USER_MANAGED
        shared = SharedEngine(path, engine, device, tensorrt.name, strategy)
        undo.pop_all()  # from here on the device is closed with the engine's last session
    return TensorRTSession(shared, manifest, options)


def _checked_manifest(path: Path, options: SessionOptions) -> EngineManifest | None:
    """Return the plan's manifest, if there is one, after checking that it fits plan and machine."""
    if not path.is_file():
        raise ModelFileError(f"{path}: no such engine file")
    manifest = read_engine_sidecar(path)
    if manifest is None:
        return None
    check_fits(manifest, Machine.for_plan(manifest, options.device_index), str(path))
    check_plan(manifest, path)
    if manifest.options.get("strip_weights"):
        raise ModelFileError(
            f"{path} was built without its weights; put them in first: gsp-deploy build "
            f"{manifest.onnx_name} --into {path.name} -o FULL.engine"
        )
    if manifest.plugin is not None and not manifest.plugin.inside:
        check_plugin(manifest.plugin, options.plugins, path)
    if manifest.contains_host_code and not options.allow_host_code:
        raise UsageError(
            f"{path} is version compatible and carries code for this host; pass "
            "--allow-host-code if you trust whoever built it, or build it with --lean"
        )
    return manifest


def _deserialise(
    tensorrt: TensorRT, path: Path, manifest: EngineManifest | None, options: SessionOptions
) -> Any:
    log = make_log(tensorrt)
    runtime = start(tensorrt, tensorrt.module.Runtime, log)
    runtime.engine_host_code_allowed = options.allow_host_code
    registry = runtime.get_plugin_registry()
    for library in options.plugins:
        if not library.is_file():
            raise ModelFileError(f"{library}: no such plugin library")
        if registry.load_library(str(library.resolve())) is None:
            raise ModelFileError(f"{library}: TensorRT cannot load the plugin: {last_error(log)}")
    engine = runtime.deserialize_cuda_engine(path.read_bytes())
    if engine is None:
        hint = "" if manifest else "; there is no manifest beside it that says what it needs"
        raise ModelFileError(f"{path}: {tensorrt.name} cannot load it: {last_error(log)}{hint}")
    return engine

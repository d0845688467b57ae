"""Loading the pooling plugin into the builder, and what its plan must remember of it."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

from gsp_deploy.engine.api import TensorRT
from gsp_deploy.engine.log import make_log
from gsp_deploy.engine.manifest import PluginRecord
from gsp_deploy.errors import ModelFileError, UsageError, reason_of
from gsp_deploy.files import sha256_of
from gsp_deploy.pooling_node import OP_TYPE, PLUGIN_NAMESPACE, PLUGIN_VERSION

ABI_SYMBOL = "gsp_plugin_abi"


def load_plugin(tensorrt: TensorRT, library: Path) -> PluginRecord:
    """Register the creators of a plugin library with TensorRT for this process.

    Raises:
        UsageError: this TensorRT cannot host plugins.
        ModelFileError: the library is missing, does not load, or has not the pooling in it.
    """
    if not tensorrt.hosts_plugins:
        raise UsageError(f"{tensorrt.name} cannot host plugins; leave --plugin out")
    if not library.is_file():
        raise ModelFileError(f"{library}: no such plugin library")
    path, log = library.resolve(), make_log(tensorrt)
    registry = tensorrt.module.Builder(log).get_plugin_registry()
    if _creator(registry) is None and registry.load_library(str(path)) is None:
        reason = log.errors[-1] if log.errors else "it gave no reason"
        raise ModelFileError(f"{library}: TensorRT cannot load the plugin: {reason}")
    if _creator(registry) is None:
        raise ModelFileError(
            f"{library}: it has no plugin {PLUGIN_NAMESPACE}::{OP_TYPE} of version {PLUGIN_VERSION}"
        )
    return PluginRecord(
        name=OP_TYPE,
        namespace=PLUGIN_NAMESPACE,
        version=PLUGIN_VERSION,
        library=library.name,
        sha256=sha256_of(library),
        abi=_abi_of(path, library),
    )


def _creator(registry: Any) -> Any:
    return registry.get_creator(OP_TYPE, PLUGIN_VERSION, PLUGIN_NAMESPACE)


def _abi_of(path: Path, library: Path) -> int:
    try:
        return int(getattr(ctypes.CDLL(str(path)), ABI_SYMBOL)())
    except (OSError, AttributeError) as error:
        raise ModelFileError(
            f"{library}: it does not tell the version of its ABI ({reason_of(error)}); build it "
            "again from plugins/"
        ) from error

"""Read, load and check the library of the pooling plugin."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gsp_deploy.artifact.engine_manifest import PluginRecord
from gsp_deploy.artifact.pooling_node import OP_TYPE, PLUGIN_NAMESPACE, PLUGIN_VERSION
from gsp_deploy.base.files import sha256_of
from gsp_deploy.engine.api import TensorRT, version_numbers
from gsp_deploy.engine.log import last_error, make_log
from gsp_deploy.errors import MissingCapabilityError, ModelFileError, UsageError, reason_of


@dataclass(frozen=True)
class PluginLibrary:
    """A library with the pooling plugin, as it describes itself.

    Attributes:
        path: the shared object.
        abi: version of the plugin's data in a plan; the library refuses plans of another ABI.
        version: the version of gsp-deploy that it was built from.
        tensorrt: version of the TensorRT headers that it was built with, such as `(10, 3, 0)`.
    """

    path: Path
    abi: int
    version: str
    tensorrt: tuple[int, int, int]


def describe_plugin(library: Path) -> PluginLibrary:
    """Open a library and ask it for its versions.

    Raises:
        ModelFileError: there is no such file, or it is not the pooling's plugin.
        MissingCapabilityError: this machine cannot load it.
    """
    if not library.is_file():
        raise ModelFileError(f"{library}: no such plugin library")
    try:
        opened = ctypes.CDLL(str(library.resolve()))
    except OSError as error:
        raise MissingCapabilityError(
            f"{library}: this machine cannot load it as a shared object: {reason_of(error)}"
        ) from error
    try:
        opened.gsp_plugin_version.restype = ctypes.c_char_p
        number = int(opened.gsp_plugin_tensorrt())
        tensorrt = (number // 10000, number // 100 % 100, number % 100)
        version = opened.gsp_plugin_version().decode()
        return PluginLibrary(library, int(opened.gsp_plugin_abi()), version, tensorrt)
    except AttributeError as error:
        raise ModelFileError(
            f"{library}: it is not libgsp_plugin.so, the pooling's plugin ({reason_of(error)}); "
            "build that from plugins/"
        ) from error


def load_plugin(tensorrt: TensorRT, library: Path) -> PluginRecord:
    """Register the pooling plugin with TensorRT for this process, and return its description.

    Raises:
        UsageError: this TensorRT cannot host plugins.
        ModelFileError: the library is missing or does not contain the pooling plugin.
        MissingCapabilityError: the library is for another machine or another TensorRT.
    """
    if not tensorrt.hosts_plugins:
        raise UsageError(f"{tensorrt.name} cannot host plugins; leave --plugin out")
    found = describe_plugin(library)
    if found.tensorrt[0] != version_numbers(tensorrt.version)[0]:
        built = ".".join(str(number) for number in found.tensorrt)
        raise MissingCapabilityError(
            f"{library}: built with the headers of TensorRT {built}, and this is {tensorrt.name}; "
            "build it again from plugins/ with this TensorRT's headers"
        )
    log = make_log(tensorrt)
    # Use the registry of the process: a builder's own registry is deleted with the builder.
    registry = tensorrt.module.get_plugin_registry()
    if _creator(registry) is None and registry.load_library(str(library.resolve())) is None:
        raise ModelFileError(f"{library}: TensorRT cannot load the plugin: {last_error(log)}")
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
        abi=found.abi,
    )


def check_plugin(record: PluginRecord, libraries: Sequence[Path], engine: Path) -> None:
    """Raise an error of one line if no library has the plugin that a plan was built with.

    The file that the plan was built with always fits. Another library fits if it has the same ABI.
    Libraries may also contain other plugins.

    Raises:
        MissingCapabilityError: the plugin is missing or of another ABI.
        ModelFileError: a library does not exist.
    """
    if not libraries:
        raise MissingCapabilityError(
            f"{engine} needs the plugin {record.name}: pass --plugin with the path of "
            f"{record.library}"
        )
    for library in libraries:
        if not library.is_file():
            raise ModelFileError(f"{library}: no such plugin library")
    if any(sha256_of(library) == record.sha256 for library in libraries):
        return
    abis = [abi for abi in map(_abi_of, libraries) if abi is not None]
    if record.abi in abis:
        return
    given = ", ".join(str(library) for library in libraries)
    what = f"is of ABI {abis[0]}" if abis else "does not have it"
    raise MissingCapabilityError(
        f"{engine} needs the plugin {record.name} of ABI {record.abi}, and {given} {what}; pass "
        f"the {record.library} that it was built with, or build the engine again"
    )


def _abi_of(library: Path) -> int | None:
    try:
        return describe_plugin(library).abi
    except (ModelFileError, MissingCapabilityError):
        return None  # it has other plugins, or TensorRT will refuse it with its own message


def _creator(registry: Any) -> Any:
    return registry.get_creator(OP_TYPE, PLUGIN_VERSION, PLUGIN_NAMESPACE)

"""Every name of TensorRT that the code touches is in 10.3, 10.16, 11.4 and TensorRT-RTX.

The names of the three versions were recorded from their bindings by `record_names.py`; those of
TensorRT-RTX come from the installed module. What is declared here as used is held against them,
and the source is searched for names that are used and not declared.
"""

from __future__ import annotations

import ast
import importlib
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

import gsp_deploy
from gsp_deploy.base.elements import BY_TENSORRT
from gsp_deploy.engine import attempt, layer_types, options
from gsp_deploy.engine.api import installed_runtimes, load_tensorrt

HERE = Path(__file__).parent
PACKAGE = Path(gsp_deploy.__file__).parent
VERSIONS = ("10.3.0", "10.16.1.11", "11.4.0.106")
Names = Mapping[str, frozenset[str]]

# Class, and what is used of it without asking whether it is there. "" is the module itself.
USED = {
    "": """Builder BuilderFlag ExecutionContextAllocationStrategy ILogger IProgressMonitor
        IProfiler LayerInformationFormat MemoryPoolType NetworkDefinitionCreationFlag OnnxParser
        OnnxParserRefitter ProfilingVerbosity Refitter Runtime SerializationFlag""",
    "Builder": """build_serialized_network create_builder_config create_network
        create_optimization_profile get_plugin_registry""",
    "BuilderFlag": "TF32",
    "EngineInspector": "get_engine_information",
    "ExecutionContextAllocationStrategy": "USER_MANAGED",
    "IBuilderConfig": """add_optimization_profile builder_optimization_level clear_flag
        create_timing_cache get_timing_cache hardware_compatibility_level plugins_to_serialize
        profiling_verbosity progress_monitor set_flag set_memory_pool_limit set_timing_cache""",
    "ICudaEngine": """create_engine_inspector create_execution_context
        create_serialization_config device_memory_size_v2 serialize_with_config
        get_tensor_dtype get_tensor_mode get_tensor_name get_tensor_profile_shape get_tensor_shape
        num_io_tensors num_optimization_profiles""",
    "IExecutionContext": """execute_async_v3 get_tensor_shape infer_shapes profiler
        set_device_memory set_input_shape set_optimization_profile_async set_tensor_address""",
    "ILayer": "get_input get_output name num_inputs num_outputs type",
    "ILogger": "Severity log",
    "ILogger.Severity": "ERROR INTERNAL_ERROR WARNING",
    "INetworkDefinition": """get_input get_layer get_output num_inputs num_layers num_outputs""",
    "IOptimizationProfile": "set_shape",
    "IPluginRegistry": "get_creator load_library",
    "IProgressMonitor": "phase_finish phase_start step_complete",
    "ISerializationConfig": "clear_flag",
    "ITensor": "dtype name shape",
    "ITimingCache": "serialize",
    "LayerInformationFormat": "JSON",
    "MemoryPoolType": "WORKSPACE",
    "NetworkDefinitionCreationFlag": "STRONGLY_TYPED",
    "OnnxParser": "get_error num_errors parse_from_file",
    "OnnxParserRefitter": "refit_from_file",
    "ParserError": "code desc node_name node_operator",
    "ProfilingVerbosity": "DETAILED",
    "Refitter": "get_missing_weights refit_cuda_engine",
    "SerializationFlag": "EXCLUDE_WEIGHTS",
    "Runtime": "deserialize_cuda_engine engine_host_code_allowed get_plugin_registry",
}
# Used only after `TensorRT.has` or `TensorRT.member` has said that it is there.
GUARDED = {"IBuilderConfig": "max_num_tactics"}
# Of TensorRT-RTX alone, used behind `TensorRT.is_rtx`.
RTX_ONLY = {"IBuilderConfig": "num_compute_capabilities set_compute_capability"}
# The part that runs plans, which the lean and the dispatch runtime have too.
_RUN_WHOLLY = (
    "ExecutionContextAllocationStrategy",
    "IExecutionContext",
    "ILogger",
    "ILogger.Severity",
    "IPluginRegistry",
    "Runtime",
)
RUNS = {
    "": "ExecutionContextAllocationStrategy ILogger IProfiler Runtime get_plugin_registry",
    **{kind: USED[kind] for kind in _RUN_WHOLLY},
    "ICudaEngine": """create_execution_context device_memory_size_v2 get_tensor_dtype
        get_tensor_mode get_tensor_name get_tensor_profile_shape get_tensor_shape num_io_tensors
        num_optimization_profiles""",
}
# Our classes implement these for TensorRT to call.
IMPLEMENTED = {
    "ILogger": "log",
    "IProfiler": "report_layer_time",
    "IProgressMonitor": "phase_finish phase_start step_complete",
}
DECLARED = (USED, GUARDED, RTX_ONLY)
# TensorRT has these names too, and the code uses them on objects of its own.
OURS = """allocate append builder clear count data engine flags int64 itemsize kind log max metadata
    min nbytes node opt plugin pop power precision read release remove size start tensorrt
    tensorrt_version value warnings"""


def recorded(version: str, kind: str = "names") -> Names:
    document = json.loads((HERE / f"{kind}-{version}.json").read_text(encoding="utf-8"))
    assert document["version"] == version
    return {kind: frozenset(names) for kind, names in document["names"].items()}


def installed(runtime: str) -> Names:
    """Return the names of an installed runtime; skip if it is not installed."""
    if runtime not in installed_runtimes():
        pytest.skip(f"{runtime} is not installed")
    spec = importlib.util.spec_from_file_location("record_names", HERE / "record_names.py")
    assert spec is not None
    assert spec.loader is not None
    recorder = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(recorder)
    found = recorder.names_of(load_tensorrt(runtime).module)
    return {kind: frozenset(names) for kind, names in found.items()}


def pairs(declared: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for kind, names in declared.items():
        for name in names.split():
            yield kind, name


def sources() -> dict[Path, ast.AST]:
    """Return the modules that hold objects of TensorRT."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        if (
            "engine" in path.parts
            or re.search(r"engine|tensorrt", path.name)
            or re.search(r"tensorrt\.module|load_tensorrt", text)
        ):
            found[path] = ast.parse(text)
    return found


def attributes_in(trees: Mapping[Path, ast.AST]) -> dict[str, set[str]]:
    """Return every attribute that is read or set, and the files where."""
    found: dict[str, set[str]] = {}
    for path, tree in trees.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute):
                found.setdefault(node.attr, set()).add(path.name)
    return found


def asked_in(trees: Mapping[Path, ast.AST]) -> set[tuple[str, str]]:
    """Return the literal pairs given to `TensorRT.has` and `TensorRT.member`."""
    found = set()
    for tree in trees.values():
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            values = [arg.value for arg in node.args if isinstance(arg, ast.Constant)]
            if node.func.attr in ("has", "member") and len(values) == 2:
                found.add((values[0], values[1]))
    return found


def undeclared(trees: Mapping[Path, ast.AST], inventories: list[Names]) -> dict[str, set[str]]:
    """Return names of TensorRT that are used and declared nowhere, with the files."""
    known = {name for names in inventories for members in names.values() for name in members}
    declared = {name for kind in DECLARED for _, name in pairs(kind)}
    return {
        name: files
        for name, files in attributes_in(trees).items()
        if name in known and name not in declared.union(OURS.split())
    }


@pytest.mark.parametrize("version", VERSIONS)
def test_every_used_name_is_in_every_version(version: str) -> None:
    names = recorded(version)
    missing = [pair for pair in pairs(USED) if pair[1] not in names.get(pair[0], ())]
    assert missing == []


def test_every_name_that_running_a_plan_needs_is_in_the_lean_runtime() -> None:
    """Of the oldest version as recorded, and of the installed one itself."""
    for names in (recorded("10.3.0", "names-lean"), installed("tensorrt-lean")):
        assert [pair for pair in pairs(RUNS) if pair[1] not in names.get(pair[0], ())] == []
    assert "Builder" not in names[""]


def test_the_modules_that_run_plans_use_no_other_name_of_tensorrt() -> None:
    trees = {path: tree for path, tree in sources().items() if "runtime" in path.parts}
    known = {name for members in recorded(VERSIONS[-1]).values() for name in members}
    runs = {name for _, name in pairs(RUNS)}
    used = {name for name in attributes_in(trees) if name in known}
    assert used - runs - set(OURS.split()) - {"dtype", "name", "shape"} == set()


def test_every_used_name_is_in_tensorrt_rtx() -> None:
    names = installed("tensorrt-rtx")
    wanted = [*pairs(USED), *pairs(RTX_ONLY), *pairs(GUARDED)]
    assert [pair for pair in wanted if pair[1] not in names.get(pair[0], ())] == []


def test_the_declaration_is_complete() -> None:
    """A name that is used and not declared: add it to USED, or to OURS if it is no TensorRT's."""
    inventories = [recorded(version) for version in VERSIONS]
    if "tensorrt-rtx" in installed_runtimes():
        inventories.append(installed("tensorrt-rtx"))
    assert undeclared(sources(), inventories) == {}


def test_nothing_is_declared_that_is_not_used() -> None:
    used = attributes_in(sources())
    declared = {pair for kind in DECLARED for pair in pairs(kind)} - {*pairs(IMPLEMENTED)}
    assert [pair for pair in sorted(declared) if pair[1] not in used] == []


def test_guarded_names_are_used_and_each_name_is_in_a_version() -> None:
    asked, inventories = asked_in(sources()), [recorded(version) for version in VERSIONS]
    assert set(pairs(GUARDED)) <= asked
    for kind, name in asked:
        assert any(name in names[kind] for names in inventories), f"no version has {kind}.{name}"


@pytest.mark.parametrize("version", VERSIONS)
def test_words_that_stand_for_members_are_members(version: str) -> None:
    names = recorded(version)
    assert set(BY_TENSORRT) <= names["DataType"]
    assert {*layer_types._OPERATORS, "DEQUANTIZE"} <= names["LayerType"]
    assert set(options._FLAGS.values()) <= names["BuilderFlag"]
    newest = recorded(VERSIONS[-1])
    assert set(attempt._LEVELS.values()) <= newest["HardwareCompatibilityLevel"]
    assert "AMPERE_PLUS" in names["HardwareCompatibilityLevel"]


def test_the_check_would_see_what_version_11_took_away() -> None:
    old, new = recorded("10.3.0"), recorded("11.4.0.106")
    assert {"FP16", "INT8"} <= old["BuilderFlag"] - new["BuilderFlag"]
    assert "device_memory_size" in old["ICudaEngine"] - new["ICudaEngine"]
    careless = {Path("careless.py"): ast.parse("config.set_flag(trt.BuilderFlag.FP16)")}
    assert undeclared(careless, [old, new]) == {"FP16": {"careless.py"}}

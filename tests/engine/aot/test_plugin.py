"""The Triton kernel as TensorRT's Python plugin: a double of `tensorrt.plugin` reads what is there.

The double follows the rules by which TensorRT 10.9 to 11.4 read a plugin's signatures.
"""

from __future__ import annotations

import importlib
import inspect
import json
import subprocess
import sys
import typing
from dataclasses import asdict, replace
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType, SimpleNamespace

import onnx
import pytest

pytest.importorskip("triton")

from gsp_deploy.engine.aot.node import NAMESPACE, Variant, retarget
from gsp_deploy.engine.api import TensorRT
from gsp_deploy.engine.options import BuildOptions
from gsp_deploy.engine.plugins import TRITON, check_can_embed
from gsp_deploy.errors import MissingCapabilityError, UsageError
from gsp_deploy.export import rewrite_pooling
from gsp_deploy.pooling_node import PoolingAttributes

PROBE = Path(__file__).parents[2] / "export" / "mapping_probe.py"
VARIANTS = [
    Variant(features, attributes) for features in (False, True) for attributes in (False, True)
]
SETTINGS = PoolingAttributes("gap", "newton", 2, 0.3, 5.0, normalize=1)


class Launch:
    """`KernelLaunchParams`."""


class Desc:
    """`TensorDesc`: type, sizes (-1 where open) and the largest of them."""

    def __init__(self, dtype: str, *sizes: int, largest: tuple[int, ...] | None = None) -> None:
        self.dtype = dtype
        self.shape_expr = list(sizes)
        self.shape = Shape(sizes, largest)


class Shape(tuple):
    def __new__(cls, sizes, largest):
        made = super().__new__(cls, sizes)
        made.is_dynamic, made.max = -1 in sizes, largest
        return made


@pytest.fixture
def plugin(monkeypatch: pytest.MonkeyPatch):
    """`aot.plugin` on the double, and what it registers by name."""
    found: dict[str, dict[str, object]] = {}

    def collector(kind: str):
        def collect(name: str, **_options: object):
            return lambda function: found.setdefault(name, {}).setdefault(kind, function)

        return collect

    types = {name: name for name in ("float32", "float16", "bfloat16")}
    module, plugins = ModuleType("tensorrt"), ModuleType("tensorrt.plugin")
    module.__dict__.update(types, plugin=plugins, __path__=[])
    plugins.__dict__.update(
        register=collector("register"),
        autotune=collector("autotune"),
        aot_impl=collector("aot_impl"),
        TensorDesc=Desc,
        KernelLaunchParams=Launch,
        SymExprs=list,
        SymIntExprs=SimpleNamespace(from_tuple=list),
        SymInt32=lambda value: ("i32", value),
        AutoTuneCombination=lambda kinds, layouts: (kinds, layouts),
        from_shape_expr=lambda shape, dtype: (tuple(shape), dtype),
    )
    monkeypatch.setitem(sys.modules, "tensorrt", module)
    monkeypatch.setitem(sys.modules, "tensorrt.plugin", plugins)
    monkeypatch.delitem(sys.modules, "gsp_deploy.engine.aot.plugin", raising=False)
    yield importlib.import_module("gsp_deploy.engine.aot.plugin"), found
    sys.modules.pop("gsp_deploy.engine.aot.plugin", None)


def tensors(variant: Variant) -> list[Desc]:
    maps = Desc("float16", -1, 64, -1, -1, largest=(8, 64, 7, 9))
    features = Desc("float16", -1, 40, -1, -1, largest=(8, 40, 7, 9))
    return [maps, Desc("float32", 16, 64), *([features] if variant.reads_features else [])]


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.name)
def test_tensorrt_reads_the_signatures_by_its_rules(variant, plugin) -> None:
    module, found = plugin
    module.register(variant, 86)
    module.register(variant, 87)  # a second time it is there already
    functions = found[f"{NAMESPACE}::{variant.name}"]
    told = {kind: inspect.signature(function) for kind, function in functions.items()}
    names, settings = list(variant.inputs), list(asdict(SETTINGS))
    register = told["register"].parameters
    assert list(register) == names + settings
    assert [register[name].annotation for name in names] == [Desc] * len(names)
    assert {register[name].annotation for name in settings} == {str, int, float}
    assert all(p.default is inspect.Parameter.empty for p in register.values())
    assert typing.get_args(told["register"].return_annotation) == (Desc,) * len(variant.outputs)
    assert list(told["autotune"].parameters) == [*names, "outputs"]
    aot = told["aot_impl"]
    assert list(aot.parameters) == [*names, *settings, "outputs", "tactic"]
    assert {n: aot.parameters[n].annotation for n in settings} == {
        n: register[n].annotation for n in settings
    }
    assert typing.get_args(aot.return_annotation)[2:] == (Launch, list)


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.name)
def test_shapes_types_and_the_kernel(variant, plugin) -> None:
    module, found = plugin
    module.register(variant, 86)
    functions = found[f"{NAMESPACE}::{variant.name}"]
    width = 40 if variant.reads_features else 64
    shapes = [((-1, width), "float32"), ((-1, -1, -1), "float32"), ((-1, 16), "float32")]
    assert functions["register"](*tensors(variant)) == tuple(shapes[: len(variant.outputs)])
    ((kinds, layouts),) = functions["autotune"](*tensors(variant), ())
    assert layouts == "LINEAR"
    assert len(kinds.split(",")) == len(variant.inputs) + len(variant.outputs)
    settings = asdict(SETTINGS) | {
        "pooling": "gmp\0" if variant.reads_features else "gap\0",  # as some parsers hand it over
        "normalize": int(not variant.reads_features),
        "output_attributes": int(variant.writes_attributes),
    }
    name, ptx, launch, scalars = functions["aot_impl"](*tensors(variant), *settings.values(), (), 0)
    assert (name, b".target sm_86" in ptx) == (b"pool_images", True)
    count = ptx[ptx.index(b".entry") :].partition(b")")[0].count(b".param")
    assert count == len(variant.inputs) + 1 + len(variant.outputs)
    assert (launch.grid_x, launch.block_x) == (-1, 128)
    assert scalars == [("i32", 1)]  # -1 times -1: height times width


@pytest.fixture(scope="module")
def folded(tiny_export: str, tmp_path_factory) -> Path:
    return rewrite_pooling(
        tiny_export, tmp_path_factory.mktemp("aot") / "plugin.onnx", "plugin"
    ).path


def test_the_node_is_taken_to_the_variant_with_weights_for_the_kernel(folded, tmp_path) -> None:
    target = tmp_path / "aot.onnx"
    assert retarget(folded, target) == Variant(False, False)
    model = onnx.load(target)
    onnx.checker.check_model(model)
    (node,) = (node for node in model.graph.node if node.domain == NAMESPACE)
    assert (node.op_type, list(node.output)) == (
        "PooledEmbeddings",
        ["embedding", "gsp/pooling/weights"],
    )
    found = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    assert (found["plugin_namespace"], found["aot"]) == (b"gsp_deploy", 1)
    assert not model.functions
    assert {opset.domain for opset in model.opset_import} == {"", NAMESPACE}


@pytest.mark.skipif(find_spec("tensorrt_rtx_bindings") is None, reason="needs tensorrt-rtx")
def test_the_parser_hands_the_settings_to_a_plugin_of_that_name(folded, tmp_path) -> None:
    retarget(folded, tmp_path / "aot.onnx")
    ran = subprocess.run(
        [
            sys.executable,
            str(PROBE),
            str(tmp_path / "aot.onnx"),
            "PooledEmbeddings",
            NAMESPACE,
            "1",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    (line,) = (line for line in ran.stdout.splitlines() if "probe:" in line)
    (call,) = json.loads(line.partition("probe:")[2])["calls"]
    expected = PoolingAttributes("gap", "newton", 3, 0.3, 5.0, normalize=1)
    assert call["fields"] == pytest.approx(asdict(expected))


def test_without_what_it_needs_it_says_so(
    plugin, folded, tiny_export, tmp_path, monkeypatch
) -> None:
    module, _ = plugin
    tensorrt = TensorRT("tensorrt", SimpleNamespace(), "10.3.0")  # type: ignore[arg-type]
    with pytest.raises(MissingCapabilityError, match="CUDA finds none"):
        module.parse_with_triton(tensorrt, folded, None)
    with pytest.raises(UsageError, match="no plugin's node; export it with --pooling plugin"):
        retarget(Path(tiny_export), tmp_path / "x.onnx")
    with pytest.raises(MissingCapabilityError, match=r"10\.9 is the first"):
        check_can_embed(tensorrt)
    check_can_embed(replace(tensorrt, version="10.9.0.34"))
    monkeypatch.setattr("gsp_deploy.engine.plugins.find_spec", lambda name: None)
    with pytest.raises(MissingCapabilityError, match="pip install triton"):
        check_can_embed(replace(tensorrt, version="11.0.0"))


def test_the_word_is_no_library() -> None:
    assert BuildOptions(plugin=TRITON).plugin_library is None
    assert BuildOptions(plugin=Path("libgsp_plugin.so")).plugin_library is not None

"""The pooling as one node: the same numbers to the bit, its contract, rewriting, refusals."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from gsp_deploy import open_session
from gsp_deploy.artifact import METADATA_KEY, ExportManifest, read_sidecar
from gsp_deploy.artifact.pooling_node import DOMAIN, OP_TYPE, expand_pooling
from gsp_deploy.errors import ModelFileError, UsageError
from gsp_deploy.export import ExportOptions, rewrite_pooling
from gsp_deploy.export.twin import write_twin
from gsp_deploy.parity import open_rounding

BOTH = ("attributes", "weights")
POOLINGS = ("gap", "gmp", "gem")
PRECISIONS = itertools.cycle([("fp32", "fp32"), ("fp16", "fp32"), ("fp32", "fp16"), ("fp16",) * 2])
CASES = [
    (*case, *next(PRECISIONS)) for case in itertools.product(POOLINGS, (False, True), (False, True))
]


def run(path: Path, inputs: np.ndarray) -> dict[str, np.ndarray]:
    with open_session(path) as session:
        return session.run(inputs)


def assert_same(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert found.keys() == expected.keys()
    for name in expected:
        np.testing.assert_array_equal(found[name], expected[name], err_msg=name)


def pooling_node(model: onnx.ModelProto) -> onnx.NodeProto:
    (node,) = (node for node in model.graph.node if node.domain == DOMAIN)
    return node


def attributes_of(node: onnx.NodeProto) -> dict[str, object]:
    return {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}


@pytest.mark.parametrize(("pooling", "normalize", "residual", "precision", "io_precision"), CASES)
def test_the_node_computes_what_the_unrolled_pooling_does_to_the_bit(
    pooling, normalize, residual, precision, io_precision, build_head, export_head, features
) -> None:
    model = build_head(pooling=pooling, max_residual=residual, normalize=normalize)
    asked = {
        "precision": precision, "io_precision": io_precision, "outputs": BOTH, "iterations": 3
    }  # fmt: skip
    plain = export_head(model, **asked)
    expected = run(plain, features)
    path = rewrite_pooling(plain, plain.with_name("plugin.onnx"), "plugin").path
    assert_same(run(path, features), expected)
    folded = onnx.load(path)
    assert len([n for n in folded.graph.node if n.name.startswith("gsp/")]) <= 11
    expanded = expand_pooling(folded)
    assert not expanded.functions
    onnx.checker.check_model(expanded, full_check=True)
    onnx.save(expanded, path.with_name("expanded.onnx"))
    assert_same(run(path.with_name("expanded.onnx"), features), expected)


@pytest.mark.parametrize(
    "options",
    [
        {"precision": "fp16"},
        {"dynamic_size": True},
        {"precision": "bf16", "io_precision": "bf16"},
        {"opset": 17, "include_preprocessing": True, "solver": "fixed-point"},
    ],
    ids=str,
)  # fmt: skip
def test_every_form_of_export_of_a_whole_network(options, exported, photographs, tmp_path) -> None:
    plain = exported(**options)
    plugin = rewrite_pooling(plain, tmp_path / "plugin.onnx", "plugin").path
    sizes = [photographs.inputs]
    if options.get("dynamic_size"):
        sizes.append(np.ascontiguousarray(photographs.inputs[:, :32, :24]))
    for images in sizes:
        assert_same(run(plugin, images), run(plain, images))
        with open_rounding(plain) as one, open_rounding(plugin) as other:
            assert_same(other.run(images), one.run(images))
    assert read_sidecar(plugin).certificate == read_sidecar(plain).certificate


def test_rewriting_gives_what_exporting_gives(exported, tmp_path) -> None:
    plain, plugin = exported(), exported(pooling_form="plugin")
    rewritten = rewrite_pooling(plain, tmp_path / "plugin.onnx", "plugin")
    assert onnx.load(rewritten.path) == onnx.load(plugin)
    assert rewritten.manifest == read_sidecar(plugin)


def test_the_node_has_the_attributes_that_the_plugin_reads(build_head, export_head) -> None:
    model = build_head(pooling="gem", transport_ratio=0.4, entropy_weight=2.0, initial_scale=0.8)
    model.head.power.data.fill_(2.5)
    asked = {"solver": "fixed-point", "iterations": 4, "outputs": ("weights",)}
    saved = onnx.load(export_head(model, pooling_form="plugin", **asked))
    node, (function,) = pooling_node(saved), saved.functions
    found = attributes_of(node)
    assert found == {
        "pooling": b"gem",
        "solver": b"fixed-point",
        "iterations": 4,
        "grid_points": 0,
        "transport_ratio": pytest.approx(0.4),
        "entropy_weight": 2.0,
        "initial_scale": pytest.approx(0.8),
        "power": 2.5,
        "normalize": 0,
        "output_weights": 1,
        "output_attributes": 0,
        "output_residual": 0,
        "output_type": b"fp32",
        "plugin_namespace": b"gsp.deploy",
        "plugin_version": b"1",
    }
    # A parser takes the plugin before the body only where the function declares the namespace.
    assert set(function.attribute) == set(found)
    assert (node.op_type, node.domain) == (function.name, function.domain) == (OP_TYPE, DOMAIN)
    assert list(function.input) == ["embeddings", "prototypes", "features"]
    assert list(function.output) == ["pooled", "weights"]
    weights = {w.name: numpy_helper.to_array(w) for w in saved.graph.initializer}
    prototypes = model.head.prototypes.detach().double().numpy()
    unit = prototypes / np.maximum(1, np.linalg.norm(prototypes, axis=1, keepdims=True))
    np.testing.assert_allclose(weights[node.input[1]], unit, rtol=1e-6)
    assert node.input[2] == "features"


@pytest.mark.parametrize(
    ("settings", "normalises", "follows"),
    [
        ({}, 1, set()),
        ({"normalize": False}, 0, set()),
        ({"max_residual": True}, 0, {"Conv", "Div"}),
        ({"pooling": "gmp"}, 0, {"Conv", "Div"}),
        ({"pooling": "gmp", "normalize": False}, 0, {"Conv"}),
    ],
)
def test_nodes_between_pooling_and_normalisation_keep_it_outside(
    settings, normalises, follows, build_head, export_head
) -> None:
    saved = onnx.load(export_head(build_head(**settings), pooling_form="plugin", iterations=2))
    assert attributes_of(pooling_node(saved))["normalize"] == normalises
    names = [node.op_type for node in saved.graph.node]
    assert set(names[names.index(OP_TYPE) :]) & {"Conv", "Div"} == follows


@pytest.mark.parametrize(
    ("settings", "word"), [({}, b"fp16"), ({"pooling": "gmp"}, b"fp32")], ids=str
)
def test_casts_of_outputs_are_the_nodes_own_where_all_have_one(
    settings, word, build_head, export_head
) -> None:
    path = export_head(
        build_head(**settings), pooling_form="plugin", io_precision="fp16", outputs=BOTH
    )
    assert attributes_of(pooling_node(onnx.load(path)))["output_type"] == word


def test_the_bare_form_has_no_body_and_says_where_it_runs(build_head, export_head) -> None:
    path = export_head(build_head(), pooling_form="plugin-bare", iterations=2)
    saved = onnx.load(path)
    assert not saved.functions
    found = attributes_of(pooling_node(saved))
    assert (found["plugin_namespace"], found["plugin_version"]) == (b"gsp.deploy", b"1")
    assert read_sidecar(path).pooling_form == "plugin-bare"
    with pytest.raises(ModelFileError, match="only TensorRT with the plugin"):
        open_session(path)


def test_rewriting_from_form_to_form(build_head, export_head, features, tmp_path) -> None:
    plain = export_head(build_head(), outputs=BOTH, external_data=True)
    expected = run(plain, features)
    plugin = rewrite_pooling(plain, tmp_path / "plugin.onnx", "plugin")
    assert plugin.manifest.external_data == "plugin.onnx.data"
    assert (tmp_path / "plugin.onnx.data").is_file()
    assert_same(run(plugin.path, features), expected)
    bare = rewrite_pooling(plugin.path, tmp_path / "bare.onnx", "plugin-bare")
    direct = rewrite_pooling(plain, tmp_path / "direct" / "bare.onnx", "plugin-bare")
    assert onnx.load(bare.path) == onnx.load(direct.path)
    in_file = {p.key: p.value for p in onnx.load(bare.path).metadata_props}[METADATA_KEY]
    assert ExportManifest.from_json(in_file, "m") == replace(bare.manifest, sha256=None)
    again = rewrite_pooling(plain, plain, "plugin")  # onto itself
    assert_same(run(again.path, features), expected)
    for source, form in [(again.path, "plugin"), (bare.path, "plugin"), (bare.path, "unrolled")]:
        with pytest.raises(UsageError, match="form"):
            rewrite_pooling(source, tmp_path / "x.onnx", form)
    assert not (tmp_path / "x.onnx").exists()


def test_the_twin_with_average_pooling_is_the_same(build_head, export_head, features) -> None:
    model = build_head(pooling="gmp", max_residual=True)
    found = []
    for form in ("unrolled", "plugin", "plugin-bare"):
        path = export_head(model, pooling_form=form)
        assert write_twin(path, path.with_name("twin.onnx")).pooling_form == "unrolled"
        twin = onnx.load(path.with_name("twin.onnx"))
        assert not twin.functions
        assert {opset.domain for opset in twin.opset_import} == {""}
        found.append(run(path.with_name("twin.onnx"), features))
    assert_same(found[1], found[0])
    assert_same(found[2], found[0])


@pytest.mark.parametrize("settings", [{"baseline": True}, {"transport_ratio": 1.0}], ids=str)
def test_pooling_without_transport_needs_no_plugin(settings, build_head, export_head) -> None:
    plain = export_head(build_head(**settings))
    with pytest.raises(UsageError, match="needs no plugin"):
        export_head(build_head(**settings), pooling_form="plugin")
    with pytest.raises(UsageError, match="needs no plugin"):
        rewrite_pooling(plain, plain.with_name("p.onnx"), "plugin")


@pytest.mark.parametrize("gone", ["gsp/embed", "gsp/embedding", "gsp/const/prototypes"])
def test_a_pooling_that_is_not_where_we_put_it(gone, build_head, export_head) -> None:
    path = export_head(build_head(), iterations=2)
    model = onnx.load(path)
    for node in model.graph.node:
        node.name = node.name.replace(gone, "other") if node.name == gone else node.name
        node.input[:] = ["other" if name == gone == "gsp/const/prototypes" else name
                         for name in node.input]  # fmt: skip
    for weight in model.graph.initializer:
        weight.name = "other" if weight.name == gone else weight.name
    onnx.save(model, path)
    with pytest.raises(ModelFileError, match="export the checkpoint again"):
        rewrite_pooling(path, path.with_name("p.onnx"), "plugin")


def test_files_that_are_no_exports(tmp_path, build_head, export_head) -> None:
    with pytest.raises(ModelFileError, match="no such"):
        rewrite_pooling(tmp_path / "gone.onnx", tmp_path / "p.onnx", "plugin")
    (tmp_path / "text.onnx").write_text("not a model")
    with pytest.raises(ModelFileError, match=r"not a whole ONNX file|no manifest"):
        rewrite_pooling(tmp_path / "text.onnx", tmp_path / "p.onnx", "plugin")
    model = onnx.load(export_head(build_head()))
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "foreign.onnx")
    with pytest.raises(ModelFileError, match="not an export of gsp-deploy"):
        rewrite_pooling(tmp_path / "foreign.onnx", tmp_path / "p.onnx", "plugin")


def test_the_form_is_one_that_there_is() -> None:
    with pytest.raises(UsageError, match="pooling form must be one of"):
        ExportOptions(pooling_form="fused")  # type: ignore[arg-type]

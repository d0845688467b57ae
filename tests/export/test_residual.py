"""`--also residual` in exported heads: correct, cheap, and NaN only for bad images."""

from __future__ import annotations

import itertools

import numpy as np
import onnx
import pytest

from gsp_deploy import open_session
from gsp_deploy.errors import UsageError
from gsp_deploy.export.model_file import read_model

POOLINGS = ("gap", "gmp", "gem")
CASES = list(itertools.product(POOLINGS, (False, True), (False, True)))


def sizes(path) -> int:
    return len(onnx.load(path).graph.node)


@pytest.mark.parametrize("form", ["unrolled", "plugin"])
@pytest.mark.parametrize(("pooling", "max_residual", "normalize"), CASES)
def test_the_graph_says_what_its_own_weights_say(
    pooling, max_residual, normalize, form, build_head, export_head, features
) -> None:
    model = build_head(
        pooling=pooling, max_residual=max_residual, normalize=normalize, entropy_weight=20.0
    )
    outputs = ("weights", "residual")
    path = export_head(model, iterations=1, solver="newton", outputs=outputs, pooling_form=form)
    with open_session(path) as session:
        found = session.run(features)
    from_weights = np.abs(found["weights"].mean(axis=(1, 2)) - 1)
    assert from_weights.max() > 1e-5  # one step leaves something to report
    np.testing.assert_allclose(found["residual"], from_weights, atol=3e-7)
    assert found["residual"].shape == (len(features),)
    assert ("embedding_bound" in found) == (pooling == "gap")
    if pooling == "gap":
        np.testing.assert_allclose(
            found["embedding_bound"], bound_of(model, features, found, max_residual), rtol=1e-2
        )


def bound_of(model, features, found, max_residual) -> np.ndarray:
    """The bound from its definition, in float64, from the residual and the weights found."""
    weight = model.head.embed.weight.detach().double().numpy()
    bias = model.head.embed.bias.detach().double().numpy()
    maps = np.einsum("dc,bchw->bdhw", weight, features) + bias[:, None, None]
    pooled = (maps * found["weights"][:, None]).mean(axis=(2, 3))
    if max_residual:
        pooled = pooled + features.max(axis=(2, 3)) @ weight.T
    longest = np.linalg.norm(maps, axis=1).max(axis=(1, 2))
    return found["residual"] * longest / np.linalg.norm(pooled, axis=1)


@pytest.mark.parametrize(("pooling", "nodes"), [("gap", 6), ("gmp", 3), ("gem", 3)])
def test_it_costs_a_handful_of_nodes(pooling, nodes, build_head, export_head) -> None:
    model = build_head(pooling=pooling)
    plain = sizes(export_head(model, iterations=2))
    assert sizes(export_head(model, iterations=2, outputs=("residual",))) == plain + nodes


def test_the_node_of_the_plugin_asks_for_it(build_head, export_head) -> None:
    settings = []
    for max_residual in (False, True):
        model = build_head(max_residual=max_residual)
        path = export_head(model, outputs=("residual",), iterations=2, pooling_form="plugin")
        (node,) = (node for node in onnx.load(path).graph.node if node.domain)
        flags = {a.name: a.i for a in node.attribute if a.name.startswith("output_")}
        settings.append((flags["output_residual"], flags["output_weights"], len(node.output)))
    # The node ends before the max residual: there the certificate follows from its weights.
    assert settings == [(1, 0, 3), (0, 1, 2)]


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
@pytest.mark.parametrize("form", ["unrolled", "plugin"])
def test_it_stays_float32_for_every_type_of_the_other_outputs(
    precision, form, build_head, export_head
) -> None:
    path = export_head(
        build_head(),
        outputs=("weights", "residual"),
        iterations=2,
        io_precision=precision,
        pooling_form=form,
    )
    types = {spec.name: spec.dtype for spec in read_model(path, "")[1].outputs}
    low = {"fp16": "float16", "bf16": "bfloat16"}[precision]
    assert types["residual"] == types["embedding_bound"] == "float32"
    assert types["embedding"] == types["weights"] == low


@pytest.mark.parametrize("pooling", POOLINGS)
def test_a_ratio_of_one_has_a_residual_of_zero(pooling, build_head, export_head, features) -> None:
    path = export_head(build_head(transport_ratio=1.0, pooling=pooling), outputs=("residual",))
    with open_session(path) as session:
        found = session.run(features)
    for name in found.keys() - {"embedding"}:
        np.testing.assert_array_equal(found[name], np.zeros(len(features)))


def test_a_baseline_has_none(build_head, export_head) -> None:
    with pytest.raises(UsageError, match="gap pooling without transport has no residual"):
        export_head(build_head(baseline=True), outputs=("residual",))


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("form", ["unrolled", "plugin"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_bad_image_spoils_itself_alone(
    pooling, form, bad, build_head, export_head, features
) -> None:
    path = export_head(
        build_head(pooling=pooling), outputs=("weights", "residual"), iterations=8,
        pooling_form=form,
    )  # fmt: skip
    broken = features.copy()
    broken[2, 1, 0, 2] = bad
    with open_session(path) as session:
        # Sessions refuse such input by name; this is what happens to features inside a network.
        found = dict(session.infer(broken, session.info.outputs))
        for index in range(len(broken)):
            alone = session.infer(broken[index : index + 1], session.info.outputs)
            for name, values in found.items():
                np.testing.assert_allclose(values[index], alone[name][0], atol=2e-6)
    is_bad = np.arange(len(broken)) == 2
    np.testing.assert_array_equal(np.isnan(found["residual"]), is_bad)
    np.testing.assert_array_equal(np.isnan(found["weights"]).all(axis=(1, 2)), is_bad)
    assert np.isfinite(found["embedding"][~is_bad]).all()


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("pooling", POOLINGS)
def test_zero_features_give_zero_as_in_pytorch(pooling, normalize, build_head, export_head) -> None:
    """Without a bias the embedding has no length; its norm is floored, or it would be NaN."""
    model = build_head(pooling=pooling, bias=False, normalize=normalize)
    path = export_head(model, outputs=("weights", "residual"), iterations=4)
    with open_session(path) as session:
        found = session.run(np.zeros((2, 12, 3, 4), np.float32))
    if pooling == "gem":  # takes no value below 1e-6
        assert np.isfinite(found["embedding"]).all()
    else:
        np.testing.assert_array_equal(found["embedding"], np.zeros((2, 7)))
    np.testing.assert_allclose(found["weights"], 1, atol=1e-6)
    assert np.isfinite(found["residual"]).all()


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (3, 4)])
@pytest.mark.parametrize("value", [0.0, 2.0])
def test_one_location_and_constant_maps_have_weights_of_one(
    value, shape, build_head, export_head
) -> None:
    path = export_head(build_head(), outputs=("weights", "residual"), iterations=4)
    with open_session(path) as session:
        found = session.run(np.full((2, 12, *shape), value, np.float32))
    np.testing.assert_allclose(found["weights"], 1, atol=2e-6)
    assert found["residual"].max() < 2e-6

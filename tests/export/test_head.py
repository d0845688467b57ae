"""The pooling head in ONNX: equal to the torch layer and the authors', and of the stated size."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from gsp_deploy import EmbeddingModel, GSPConfig, ModelConfig, open_session
from gsp_deploy.export import ExportOptions
from gsp_deploy.export.assembly import Draft
from gsp_deploy.export.transport import SolverPlan

ERROR = 3e-6  # of float32 over the whole head, relative to the largest value
BOTH = ("attributes", "weights")
MODES = {"gap": "gap", "gmp": "gmp", "gmeanp": "gem"}
GOLDEN = Path(__file__).parents[1] / "golden"
POOLINGS = ("gap", "gmp", "gem")
HEADS = [
    *({"pooling": p, "max_residual": r} for p, r in itertools.product(POOLINGS, (False, True))),
    *({"baseline": True, "pooling": p} for p in (*POOLINGS, "gap+gmp")),
]
CASES = list(itertools.product(POOLINGS, (False, True), (False, True), (0.3, 1.0)))


@pytest.mark.parametrize("solver", ["newton", "fixed-point"])
@pytest.mark.parametrize(("pooling", "residual", "plain", "ratio"), CASES)
def test_every_mode_equals_the_torch_layer(
    pooling, residual, plain, ratio, solver, build_head, export_head, errors_against_torch, features
) -> None:
    """`plain` is the TensorFlow reference's form: no bias, not normalised."""
    model = build_head(
        pooling=pooling,
        max_residual=residual,
        bias=not plain,
        normalize=not plain,
        transport_ratio=ratio,
        solver=solver,
        iterations=30,
    )
    path = export_head(model, solver=solver, iterations=30, outputs=BOTH)
    errors = errors_against_torch(path, model, features)
    assert set(errors) == {"embedding", *BOTH}
    assert max(errors.values()) < ERROR * (1 if solver == "newton" else 3)


@pytest.mark.parametrize("ratio", [0.05, 0.5, 0.95])
@pytest.mark.parametrize("gamma", [0.1, 1.0, 5.0, 40.0, 50.0, 200.0])
def test_every_sharpness_equals_the_torch_layer(
    gamma, ratio, build_head, export_head, errors_against_torch, features
) -> None:
    model = build_head(entropy_weight=gamma, transport_ratio=ratio)
    path = export_head(model, iterations=20, outputs=BOTH)
    # costs are good to some 3e-7, and gamma carries that into the weights
    assert max(errors_against_torch(path, model, features).values()) < ERROR + 1e-6 * gamma


@pytest.mark.parametrize("power", [0.5, 3.0, 4.0, 4.5, 30.0])
def test_every_power_of_the_generalised_mean_equals_the_torch_layer(
    power, build_head, export_head, errors_against_torch, features
) -> None:
    model = build_head(pooling="gem")
    model.head.power.data.fill_(power)
    path = export_head(model, iterations=12)
    assert errors_against_torch(path, model, features)["embedding"] < 2 * ERROR


@pytest.mark.parametrize("scale", [None, 1.0, 0.01])
@pytest.mark.parametrize("steps", [1, 2, 5, 100])
def test_the_papers_iteration_is_unrolled_faithfully(
    steps, scale, build_head, export_head, errors_against_torch, features
) -> None:
    """Also where it is far from converged: the same start and the same number of steps."""
    model = build_head(
        solver="fixed-point", iterations=steps, initial_scale=scale, transport_ratio=0.8
    )
    path = export_head(model, solver="fixed-point", outputs=BOTH)
    errors = errors_against_torch(path, model, features)
    assert max(errors.values()) < ERROR
    names = [node.name for node in onnx.load(path).graph.node]
    assert len({n.split("/")[1] for n in names if "fixed_point_" in n}) == steps


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("pooling", ["gap", "gmp", "gem", "gap+gmp"])
def test_baselines_equal_the_torch_layers(
    pooling, normalize, build_head, export_head, errors_against_torch, features
) -> None:
    model = build_head(baseline=True, pooling=pooling, normalize=normalize, bias=normalize)
    assert errors_against_torch(export_head(model), model, features)["embedding"] < ERROR


def golden_head(case: dict[str, np.ndarray], **settings: object) -> EmbeddingModel:
    dim, channels = case["embed_weight"].shape
    head = GSPConfig(channels, dim, len(case["prototypes"]), **settings)
    model = EmbeddingModel(ModelConfig("features", head, None)).eval()
    state = {"embed.weight": case["embed_weight"], "prototypes": case["prototypes"]}
    if head.bias:
        state["embed.bias"] = case["embed_bias"]
    if head.pooling == "gem":
        state["power"] = np.float32(3)
    model.head.load_state_dict({k: torch.from_numpy(np.asarray(v)) for k, v in state.items()})
    return model


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("pytorch_*.npz")), ids=lambda path: path.stem)
def test_the_graph_equals_the_authors_pytorch_layer(path: Path, export_head) -> None:
    case = dict(np.load(path))
    model = golden_head(
        case,
        transport_ratio=float(case["transport_ratio"]),
        entropy_weight=float(case["entropy_weight"]),
        iterations=int(case["iterations"]),
        pooling=MODES[str(case["pooling"])],
    )
    solvers = ["fixed-point"] if "_k5" in path.stem else ["fixed-point", "newton"]
    for solver in solvers:
        steps = 12 if solver == "newton" else None
        file = export_head(model, solver=solver, iterations=steps, outputs=BOTH)
        with open_session(file) as session:
            found = session.run(case["features"])
        for name in ("embedding", *BOTH):
            scale = np.abs(case[name]).max()
            assert np.abs(found[name] - case[name]).max() / scale < 1e-5, (solver, name)


@pytest.mark.parametrize("name", ["gamma5_k100", "gamma1_k10"])
def test_the_graph_equals_the_authors_tensorflow_layer(name: str, export_head) -> None:
    vectors = np.load(GOLDEN / "tensorflow_layer.npz")
    case = {key.split("/")[1]: vectors[key] for key in vectors if key.startswith(name)}
    model = golden_head(
        {"embed_weight": case["conv_kernel"][0, 0].T.copy(), "prototypes": case["support"]},
        transport_ratio=float(case["mu"]),
        entropy_weight=float(case["gamma"]),
        iterations=int(case["iters"]),
        initial_scale=1.0,
        normalize=False,
        bias=False,
    )
    with open_session(export_head(model, solver="fixed-point", outputs=BOTH)) as session:
        found = session.run(np.ascontiguousarray(case["x"].transpose(0, 3, 1, 2)))
    both = np.concatenate([found["embedding"], found["attributes"]], axis=1)
    for given, recorded in [(found["embedding"], case["y_infer"]), (both, case["y_train"])]:
        assert np.abs(given - recorded).max() / np.abs(recorded).max() < 1e-5


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (3, 4), (8, 7)])
@pytest.mark.parametrize("batch", [1, 3])
def test_any_batch_height_and_width(
    batch, size, build_head, export_head, errors_against_torch
) -> None:
    model = build_head(pooling="gem", max_residual=True)
    path = export_head(model, iterations=12, outputs=BOTH)
    inputs = np.random.default_rng(1).random((batch, 12, *size)).astype(np.float32)
    errors = errors_against_torch(path, model, inputs)
    assert max(errors.values()) < ERROR


@pytest.mark.parametrize("gamma", [0.1, 5.0, 200.0])
@pytest.mark.parametrize("pooling", POOLINGS)
def test_extreme_features_stay_finite_and_equal(
    pooling, gamma, build_head, export_head, features
) -> None:
    model = build_head(pooling=pooling, entropy_weight=gamma)
    with open_session(export_head(model, iterations=20, outputs=BOTH)) as session:
        for scale in (0.0, 1e-8, 1e4):
            inputs = features * np.float32(scale)
            found = session.run(inputs)
            with torch.inference_mode():
                expected = model(torch.from_numpy(inputs))
            for name, array in found.items():
                reference = getattr(expected, name).numpy()
                np.testing.assert_allclose(array, reference, atol=2e-6 * (1 + gamma), rtol=1e-5)


def head_size(model: EmbeddingModel, **options: object) -> tuple[int, int]:
    """Return how many nodes the head has beside its solver steps, and how many of 4 steps."""
    asked = ExportOptions(**options)
    graph = Draft(model, asked).assemble(SolverPlan("newton", 4), asked.outputs).graph
    nodes = [str(node.name).split("/") for node in graph if str(node.name).startswith("gsp/")]
    steps = sum(path[1].startswith("newton_") for path in nodes)
    return len(nodes) - steps, steps


# What the embedding may take, and each further output beside it.
BUDGET = 44
EXTRA = {"attributes": 5, "weights": 3}


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("outputs", [(), ("attributes",), ("weights",), BOTH])
@pytest.mark.parametrize("pooling", POOLINGS)
def test_the_head_is_no_larger_than_stated(pooling, outputs, precision, build_head) -> None:
    for residual, ratio in itertools.product((False, True), (0.3, 1.0)):
        model = build_head(pooling=pooling, max_residual=residual, transport_ratio=ratio)
        fixed, steps = head_size(model, precision=precision, outputs=outputs)
        assert fixed <= BUDGET + sum(EXTRA[name] for name in outputs)
        assert steps == (0 if ratio == 1 else 4 * 18)


def test_heads_that_could_overflow_float32_have_a_few_more_nodes(build_head) -> None:
    model = build_head(pooling="gem")
    plain = head_size(model)[0]
    assert head_size(build_head(pooling="gem", entropy_weight=41.0))[0] == plain + 3
    model.head.power.data.fill_(4.5)
    assert head_size(model)[0] == plain + 4


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_the_default_head_with_every_output_is_within_the_same_budget(
    precision, build_head
) -> None:
    assert head_size(build_head(), outputs=BOTH, precision=precision)[0] <= BUDGET


def test_constants_are_folded(build_head, export_head) -> None:
    model = build_head(seed=3)
    graph = onnx.load(export_head(model, outputs=BOTH)).graph
    constants = {w.name: numpy_helper.to_array(w) for w in graph.initializer}
    for node in graph.node:
        assert not all(name in constants for name in node.input), node.name
    prototypes = model.head.prototypes.detach().double().numpy()
    unit = prototypes / np.maximum(1, np.linalg.norm(prototypes, axis=1, keepdims=True))
    readers = [node.op_type for node in graph.node if "gsp/const/prototypes" in node.input]
    assert readers == ["Conv"]
    np.testing.assert_allclose(constants["gsp/const/prototypes"][:, :, 0, 0], -2 * unit, rtol=1e-6)
    raw = [name for name, a in constants.items() if a.size == prototypes.size]
    assert set(raw) == {"gsp/const/prototypes", "gsp/const/unit_prototypes"}
    assert sum(node.op_type == "Conv" for node in graph.node) == 2


def test_only_standard_operators(build_head, export_head) -> None:
    model = onnx.load(export_head(build_head(pooling="gem", max_residual=True), outputs=BOTH))
    assert [opset.domain for opset in model.opset_import] == [""]
    assert not model.functions
    assert {node.domain for node in model.graph.node} <= {"", "ai.onnx"}
    assert "ReduceLogSumExp" not in {node.op_type for node in model.graph.node}


@pytest.mark.parametrize("settings", HEADS, ids=str)
def test_no_matrix_product(settings, build_head, export_head) -> None:
    """TensorRT-RTX has none in float32 for Turing; its convolutions it has."""
    graph = onnx.load(export_head(build_head(**settings))).graph
    operators = [node.op_type for node in graph.node]
    assert not {"Gemm", "MatMul", "Einsum"} & set(operators)
    assert "Reshape" not in operators


def test_dead_ends_are_removed(build_head, export_head) -> None:
    graph = onnx.load(export_head(build_head(transport_ratio=1.0))).graph
    used = {name for node in graph.node for name in node.input} | {o.name for o in graph.output}
    assert all(set(node.output) & used for node in graph.node)
    assert {w.name for w in graph.initializer} <= used
    assert not any("prototypes" in w.name for w in graph.initializer)

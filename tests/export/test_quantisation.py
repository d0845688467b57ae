"""int8: what computes in it, what does not, what it costs, and that nothing of it is by chance."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator

from gsp_deploy import EmbeddingModel, GSPConfig, ModelConfig, PreprocessingSpec, open_session
from gsp_deploy.errors import UsageError
from gsp_deploy.export import ExportOptions, export_onnx, quantisation_images
from gsp_deploy.export.assembly import Draft
from gsp_deploy.export.calibration import Calibration
from gsp_deploy.export.head import SolverPlan
from gsp_deploy.export.quantisation import images as images_module
from gsp_deploy.export.quantisation import range_cache, ranges
from gsp_deploy.export.quantisation.graph import quantise_graph
from gsp_deploy.export.quantisation.layers import find_layers
from gsp_deploy.export.quantisation.search import fewest, quantise_draft
from gsp_deploy.manifest import ExportManifest, read_sidecar
from gsp_deploy.normalisation import normalise

SIDE = 32
SPEC = PreprocessingSpec(SIDE, SIDE)
CLASSES, EACH = 6, 6
PLAN = SolverPlan("newton", 6)
# A tensor with one channel this much larger than the others has no int8 levels left for them.
OUTLIER = 300.0
SABOTAGED = ("units.0.conv", "units.1.conv")


def gratings(seed: int = 0) -> np.ndarray:
    """Images that even an untrained network tells apart: uint8 `(classes * each, H, W, 3)`."""
    draw = np.random.default_rng(seed)
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE
    pictures = []
    for index in range(CLASSES * EACH):
        angle = (index // EACH) * math.pi / CLASSES + draw.normal(0, 0.12)
        phase = draw.uniform(0, 2 * math.pi)
        wave = np.sin(2 * math.pi * 4 * (x * math.cos(angle) + y * math.sin(angle)) + phase)
        hue = 2 * math.pi * (index // EACH) / CLASSES + np.array([0, 2.1, 4.2])
        pixels = 128 + 60 * np.cos(hue) + 50 * wave[..., None] + draw.normal(0, 25, (SIDE, SIDE, 3))
        pictures.append(pixels.clip(0, 255).astype(np.uint8))
    return np.stack(pictures)


LABELS = np.repeat(np.arange(CLASSES), EACH)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The gratings as files, a folder a class."""
    root = tmp_path_factory.mktemp("gratings")
    for index, pixels in enumerate(gratings()):
        path = root / f"class_{LABELS[index]}" / f"{index:03d}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(pixels).save(path)
    return root


def small_model(sabotaged: bool) -> EmbeddingModel:
    """An untrained network; sabotaged, it computes the same with an outlier channel inside."""
    torch.manual_seed(0)
    head = GSPConfig(32, embedding_dim=16, num_prototypes=4, solver="newton")
    config = ModelConfig("small_cnn_s8", head, SPEC, {"width": 8})
    model = EmbeddingModel(config).eval()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.bias.normal_(0, 0.2)
        if sabotaged:
            first, second = model.backbone.units[0], model.backbone.units[1]
            first.norm.weight[0] *= OUTLIER
            first.norm.bias[0] *= OUTLIER
            second.conv.weight[:, 0] /= OUTLIER
    return model


@pytest.fixture(scope="module")
def healthy() -> Draft:
    return Draft(small_model(sabotaged=False), ExportOptions(precision="int8"))


@pytest.fixture(scope="module")
def exported(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sabotaged model as float.onnx and int8.onnx, with pre-processing inside."""
    root = tmp_path_factory.mktemp("exported")
    model = small_model(sabotaged=True)
    common = {"include_preprocessing": True, "iterations": 6}
    export_onnx(model, root / "float.onnx", ExportOptions(**common))
    export_onnx(
        model,
        root / "int8.onnx",
        ExportOptions(precision="int8", max_drop=1.0, **common),
        quantisation=quantisation_images(folder, SPEC),
    )
    return root


def manifest_of(path: Path) -> ExportManifest:
    manifest = read_sidecar(path)
    assert manifest is not None
    return manifest


def producers(graph: onnx.GraphProto) -> dict[str, onnx.NodeProto]:
    return {name: node for node in graph.node for name in node.output}


def constants(graph: onnx.GraphProto) -> dict[str, np.ndarray]:
    return {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}


# What stays in float32, and what that does to retrieval


def test_only_the_layers_around_the_outlier_stay_in_float32(exported: Path) -> None:
    record = manifest_of(exported / "int8.onnx").quantisation
    assert record is not None
    assert sorted(layer.layer for layer in record.float_layers) == sorted(SABOTAGED)
    sensitivities = [layer.sensitivity for layer in record.float_layers]
    assert sensitivities == sorted(sensitivities, reverse=True)
    assert min(sensitivities) > 0.1
    all_int8 = record.trials[0]
    assert all_int8.float_layers == 0
    assert record.float32_score - all_int8.score > 5  # the outlier did ruin it
    assert record.passed
    assert record.drop <= record.max_drop == 1.0


@pytest.mark.parametrize(("file", "field"), [("float", "float32_score"), ("int8", "score")])
def test_scores_are_what_another_library_measures(exported: Path, file: str, field: str) -> None:
    with open_session(exported / f"{file}.onnx") as session:
        embeddings = torch.from_numpy(session.embed(gratings()))
    calculator = AccuracyCalculator(
        include=("mean_average_precision_at_r",), k="max_bin_count", device=torch.device("cpu")
    )
    found = calculator.get_accuracy(embeddings, torch.from_numpy(LABELS))
    record = manifest_of(exported / "int8.onnx").quantisation
    expected = 100 * found["mean_average_precision_at_r"]
    assert getattr(record, field) == pytest.approx(expected, abs=1e-3)


def test_neighbour_overlap_is_what_it_says(exported: Path) -> None:
    nearest = []
    for file in ("float.onnx", "int8.onnx"):
        with open_session(exported / file) as session:
            points = session.embed(gratings()).astype(np.float64)
        distances = np.linalg.norm(points[:, None] - points[None], axis=2)
        np.fill_diagonal(distances, np.inf)
        nearest.append(np.argsort(distances, axis=1)[:, :10])
    shared = [len(set(a) & set(b)) / 10 for a, b in zip(*nearest, strict=True)]
    record = manifest_of(exported / "int8.onnx").quantisation
    assert record is not None
    assert record.neighbour_overlap == pytest.approx(100 * np.mean(shared), abs=0.3)


def test_the_manifest_in_the_file_tells_the_same(exported: Path) -> None:
    path = exported / "int8.onnx"
    with open_session(path) as session:
        inside = session.info.manifest
    assert inside is not None
    beside = manifest_of(path)
    assert inside.precision == "int8"
    assert inside.quantisation == beside.quantisation
    assert ExportManifest.from_json(beside.to_json(), path) == beside
    assert beside.certificate is not None
    assert beside.certificate.worst_relative_weight_error < 1e-3


# The graph


def test_every_quantised_layer_obeys_tensorrt_and_no_other_node_is_touched(exported: Path) -> None:
    """Symmetric int8, weights a scale a channel, activations one; biases and the rest float32."""
    model = onnx.load(exported / "int8.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert [entry.domain for entry in model.opset_import] == [""]
    graph, made_by, stored = model.graph, producers(model.graph), constants(model.graph)
    record = manifest_of(exported / "int8.onnx").quantisation
    assert record is not None
    left_out = {layer.node for layer in record.float_layers}
    for node in graph.node:
        if node.op_type == "QuantizeLinear":
            scale, zero = stored[node.input[1]], stored[node.input[2]]
            assert scale.shape == ()
            assert scale > 0
        elif node.op_type == "DequantizeLinear":
            zero = stored[node.input[2]]
        else:
            continue
        assert zero.dtype == np.int8
        assert not zero.any()
    layers = [n for n in graph.node if n.op_type == "Conv" and not n.name.startswith("gsp/")]
    assert len(layers) == record.layers
    for layer in layers:
        kinds = [made_by[name].op_type if name in made_by else "stored" for name in layer.input]
        if layer.name in left_out:
            assert "DequantizeLinear" not in kinds
            assert stored[layer.input[1]].dtype == np.float32
        else:
            assert kinds == ["DequantizeLinear", "DequantizeLinear", "stored"]
            weight = stored[made_by[layer.input[1]].input[0]]
            assert weight.dtype == np.int8
            assert stored[made_by[layer.input[1]].input[1]].shape == (len(weight),)
        assert stored[layer.input[2]].dtype == np.float32


def test_the_head_has_no_quantised_neighbour(exported: Path) -> None:
    graph = onnx.load(exported / "int8.onnx").graph
    made_by = producers(graph)
    pairs = {"QuantizeLinear", "DequantizeLinear"}
    head = [node for node in graph.node if node.name.startswith("gsp/")]
    assert any(node.name == "gsp/embed" for node in head)
    for node in head:
        assert node.op_type not in pairs
        assert not [n for n in node.input if n in made_by and made_by[n].op_type in pairs]
    written = {name for node in head for name in node.output}
    assert not [n for n in graph.node if n.op_type in pairs and written & set(n.input)]


def test_preprocessing_stays_in_float(exported: Path) -> None:
    graph = onnx.load(exported / "int8.onnx").graph
    made_by = producers(graph)
    for node in graph.node:
        if node.name.startswith("preprocessing/"):
            inner = [made_by[name].op_type for name in node.input if name in made_by]
            assert "DequantizeLinear" not in inner


def test_onnx_runtime_runs_every_quantised_layer_on_integers(
    healthy: Draft, folder: Path, tmp_path: Path
) -> None:
    layers = find_layers(healthy.backbone)
    found = ranges.calibrate_ranges(healthy.backbone, calibration(), "min-max")
    source, optimised = tmp_path / "q.onnx", tmp_path / "optimised.onnx"
    ir.save(quantise_graph(healthy.backbone, layers, (), found), source)
    settings = onnxruntime.SessionOptions()
    settings.optimized_model_filepath = str(optimised)
    settings.log_severity_level = 3
    onnxruntime.InferenceSession(str(source), settings, providers=["CPUExecutionProvider"])
    operators = [node.op_type for node in onnx.load(optimised).graph.node]
    assert operators.count("QLinearConv") == len(layers) == 6
    assert "Conv" not in operators


@pytest.mark.parametrize("which", [0, 2, 5])
def test_one_quantised_layer_computes_what_fake_quantisation_in_torch_does(
    which: int, healthy: Draft, tmp_path: Path
) -> None:
    """Without ONNX Runtime's own fusions, which may round the last bit otherwise."""
    layers = find_layers(healthy.backbone)
    rest = [layer for layer in layers if layer is not layers[which]]
    found = ranges.calibrate_ranges(healthy.backbone, calibration(), "min-max")
    path = tmp_path / "one.onnx"
    ir.save(quantise_graph(healthy.backbone, [layers[which]], rest, found), path)
    settings = onnxruntime.SessionOptions()
    settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])
    images = normalise(gratings(), SPEC)
    (features,) = session.run(None, {"images": images})
    expected = with_fake_quantised_unit(small_model(sabotaged=False), which, images)
    scale = np.abs(expected).max() / 127
    # a value that float rounding puts on the other side of .5 moves by a whole step: rare
    assert np.mean(np.abs(features - expected) > 0.02 * scale) < 2e-3
    assert np.abs(features - expected).max() < 3 * scale


def with_fake_quantised_unit(model: EmbeddingModel, which: int, images: np.ndarray) -> np.ndarray:
    """Run the network in torch with input, weight and output of one convolution rounded."""
    unit = model.backbone.units[which]
    fused = torch.nn.utils.fusion.fuse_conv_bn_eval(unit.conv, unit.norm)

    def rounded(values: torch.Tensor, largest: torch.Tensor) -> torch.Tensor:
        return torch.fake_quantize_per_tensor_affine(values, float(largest) / 127, 0, -127, 127)

    weight = fused.weight.detach()
    scales = weight.abs().amax(dim=(1, 2, 3)) / 127
    zeros = torch.zeros(len(weight), dtype=torch.int32)
    weight = torch.fake_quantize_per_channel_affine(weight, scales, zeros, 0, -127, 127)

    def forward(x: torch.Tensor) -> torch.Tensor:
        out = torch.nn.functional.conv2d(
            rounded(x, x.abs().max()), weight, fused.bias, fused.stride, fused.padding
        )
        exact = fused(x)
        # where a ReLU follows directly, the output has the ReLU's range
        largest = exact.abs().max() if unit.skips else exact.clamp(min=0).max()
        out = rounded(out, largest)
        return torch.relu(out + x if unit.skips else out)

    with torch.no_grad():
        x = torch.from_numpy(images)
        for index, other in enumerate(model.backbone.units):
            x = forward(x) if index == which else other(x)
    return x.numpy()


@pytest.mark.parametrize("backbone", ["test_efficientnet", "test_resnet"])
def test_other_backbones_pass_the_checker_and_stay_close(backbone: str, tmp_path: Path) -> None:
    """SiLU and squeeze-excitation; bottlenecks with projections."""
    from gsp_deploy.model import feature_channels

    torch.manual_seed(0)
    head = GSPConfig(
        feature_channels(backbone, {}, SPEC), embedding_dim=8, num_prototypes=4, solver="newton"
    )
    draft = Draft(
        EmbeddingModel(ModelConfig(backbone, head, SPEC)).eval(),
        ExportOptions(precision="int8", max_drop=99, opset=19, dynamic_batch=False),
    )
    found, record = quantise_draft(draft, PLAN, unlabelled(12))
    assert record.layers == len(find_layers(draft.backbone)) > 5
    assert record.score > 90
    path = tmp_path / "model.onnx"
    ir.save(found.assemble(PLAN, ()), path)
    onnx.checker.check_model(str(path), full_check=True)
    assert onnx.load(path).opset_import[0].version == 19


# Ranges and their cache


def calibration(count: int = CLASSES * EACH) -> Calibration:
    return Calibration(gratings()[:count], f"{count} gratings", SPEC)


def unlabelled(count: int = CLASSES * EACH) -> images_module.QuantisationImages:
    return images_module.QuantisationImages(calibration(count), calibration(count))


def activations(model: EmbeddingModel) -> tuple[np.ndarray, np.ndarray]:
    """The network's input, and the output of its first unit, by torch."""
    images = torch.from_numpy(normalise(gratings(), SPEC))
    with torch.no_grad():
        return images.numpy(), model.backbone.units[0](images).numpy()


def first_output(draft: Draft) -> str:
    activation = find_layers(draft.backbone)[0].activation
    node = next(node for node in draft.backbone.graph if node.name == activation)
    return str(node.outputs[0].name)


def test_min_max_ranges_are_the_extremes(healthy: Draft, monkeypatch: pytest.MonkeyPatch) -> None:
    images, first = activations(small_model(sabotaged=False))
    found = ranges.calibrate_ranges(healthy.backbone, calibration(), "min-max")
    assert found["images"] == pytest.approx((images.min(), images.max()), rel=1e-6)
    assert found[first_output(healthy)] == pytest.approx((0, first.max()), rel=1e-5)
    monkeypatch.setattr(ranges, "_CHUNK_BYTES", 1)  # one image at a time
    again = ranges.calibrate_ranges(healthy.backbone, calibration(), "min-max")
    assert list(again) == list(found)
    np.testing.assert_allclose(list(again.values()), list(found.values()), rtol=1e-5)


def test_percentile_cuts_the_outermost_values(healthy: Draft) -> None:
    images, _ = activations(small_model(sabotaged=False))
    low, high = ranges.calibrate_ranges(healthy.backbone, calibration(), "percentile")["images"]
    sizes = np.abs(images)
    wanted = float(np.quantile(sizes, ranges.SETTINGS["percentile"]["percentile"] / 100))
    bin_width = float(sizes.max()) / ranges.SETTINGS["percentile"]["num_bins"]
    assert high == pytest.approx(wanted, abs=2 * bin_width)
    assert max(-low, high) == pytest.approx(wanted, abs=2 * bin_width)


def test_entropy_clips_a_long_tail_and_keeps_a_flat_distribution(
    healthy: Draft, capsys: pytest.CaptureFixture[str]
) -> None:
    found = ranges.calibrate_ranges(healthy.backbone, calibration(), "entropy")
    extremes = ranges.calibrate_ranges(healthy.backbone, calibration(), "min-max")
    shares = {name: max(map(abs, found[name])) / max(map(abs, extremes[name])) for name in found}
    assert set(found) == set(extremes)
    assert 0 < min(shares.values()) < 0.9  # some tail is cut
    assert max(shares.values()) <= 1 + 1e-6
    assert capsys.readouterr().out == ""  # the calibrators' prints stay out of stdout


@pytest.fixture
def calibrations(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Count how often images went through the network for their ranges."""
    calls = []
    original = range_cache.calibrate_ranges

    def counting(*arguments: object) -> ranges.Ranges:
        calls.append(arguments)
        return original(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(range_cache, "calibrate_ranges", counting)
    return lambda: len(calls)


def test_ranges_are_kept_and_used_again_while_everything_is_the_same(
    healthy: Draft, tmp_path: Path, calibrations: Callable[[], int]
) -> None:
    cache = range_cache.cache_path(tmp_path / "model.onnx")
    assert cache.name == "model.onnx.calibration.json"
    lines: list[str] = []

    def ranges_of(images: Calibration, method: str = "min-max") -> ranges.Ranges:
        return range_cache.cached_ranges(healthy.backbone, images, method, cache, lines.append)

    first = ranges_of(calibration())
    assert calibrations() == 1
    assert ranges_of(calibration()) == first
    assert calibrations() == 1
    assert cache.name in lines[-1]
    changed = gratings()
    changed[3, 5, 5, 0] ^= 1
    ranges_of(Calibration(changed, "one pixel changed", SPEC))
    assert calibrations() == 2
    ranges_of(Calibration(changed, "one pixel changed", SPEC), "percentile")
    assert calibrations() == 3
    cache.write_text(cache.read_text()[:-40])
    ranges_of(Calibration(changed, "one pixel changed", SPEC), "percentile")
    assert calibrations() == 4


def test_the_same_export_twice_gives_the_same_bytes(
    exported: Path, folder: Path, tmp_path: Path, calibrations: Callable[[], int]
) -> None:
    """Once with the ranges measured, once with the ranges read."""
    shutil.copy(range_cache.cache_path(exported / "int8.onnx"), tmp_path)
    options = ExportOptions(
        precision="int8", max_drop=1.0, include_preprocessing=True, iterations=6
    )
    again = tmp_path / "int8.onnx"
    images = quantisation_images(folder, SPEC)
    export_onnx(small_model(sabotaged=True), again, options, quantisation=images)
    assert calibrations() == 0
    assert again.read_bytes() == (exported / "int8.onnx").read_bytes()


# The images


def test_images_without_classes_are_judged_by_cosine(healthy: Draft) -> None:
    draft, record = quantise_draft(healthy, PLAN, unlabelled())
    assert record.measure == "cosine"
    assert record.float32_score == pytest.approx(100)
    embeddings = []
    for variant in (healthy, draft):
        session = onnxruntime.InferenceSession(
            ir.serde.serialize_model(variant.assemble(PLAN, ())).SerializeToString(),
            providers=["CPUExecutionProvider"],
        )
        embeddings.append(session.run(None, {"images": normalise(gratings(), SPEC)})[0])
    expected, found = (e - embeddings[0].mean(axis=0) for e in embeddings)
    cosine = torch.cosine_similarity(torch.from_numpy(found), torch.from_numpy(expected))
    assert record.score == pytest.approx(100 * float(cosine.mean()), abs=1e-3)
    assert record.score > 99


def test_where_nothing_will_do_the_best_attempt_comes_back(healthy: Draft) -> None:
    options = ExportOptions(precision="int8", max_drop=0)
    draft, record = quantise_draft(healthy.variant(healthy.backbone, options), PLAN, unlabelled())
    assert not record.passed
    assert record.score == max(trial.score for trial in record.trials)
    assert len(record.float_layers) == record.layers - 1  # each layer in int8 costs something
    operators = [node.op_type for node in draft.backbone.graph]
    assert operators.count("QuantizeLinear") in (1, 2)  # the last layer's input and output


def test_few_images_and_broken_ones_are_said(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "images")
    (tmp_path / "images" / "class_0" / "broken.png").write_bytes(b"not an image")
    found = quantisation_images(tmp_path / "images", SPEC)
    assert len(found.calibration.inputs) == CLASSES * EACH
    assert any("36 calibration images: fewer than 100" in note for note in found.notes)
    assert len([note for note in found.notes if "broken.png" in note]) == 1
    assert found.labels is not None
    np.testing.assert_array_equal(found.labels, LABELS)


def test_validation_images_come_from_a_flat_folder_or_a_data_set(
    folder: Path, tmp_path: Path
) -> None:
    flat = tmp_path / "flat"
    flat.mkdir()
    for file in sorted((folder / "class_0").iterdir()):
        shutil.copy(file, flat)
    assert quantisation_images(folder, SPEC, str(flat)).labels is None
    of_set = quantisation_images(folder, SPEC, f"folder:{folder}")
    assert of_set.labels is not None
    assert len(of_set.labels) == CLASSES * EACH // 2  # the second half of the classes tests
    np.testing.assert_array_equal(of_set.validation.inputs, gratings()[CLASSES * EACH // 2 :])


def test_a_large_set_is_cut_down_to_whole_classes(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images_module, "MOST_VALIDATION_IMAGES", 3 * EACH)
    monkeypatch.setattr(images_module, "MOST_CALIBRATION_IMAGES", 9)
    found = quantisation_images(folder, SPEC)
    assert found.labels is not None
    assert np.unique(found.labels, return_counts=True)[1].tolist() == [EACH] * 3
    np.testing.assert_array_equal(found.calibration.inputs, gratings()[::4])


# The search, and what is refused


@given(st.integers(0, 200), st.integers(1, 250))
def test_fewest_finds_the_threshold_in_few_trials(most: int, threshold: int) -> None:
    tried: list[int] = []

    def passes(count: int) -> bool:
        assert 1 <= count <= most
        tried.append(count)
        return count >= threshold

    assert fewest(passes, most) == (threshold if threshold <= most else None)
    assert len(set(tried)) <= 2 * math.log2(max(most, 1)) + 2


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"io_precision": "int8"}, "io_precision"),
        ({"calibration_method": "mean"}, "min-max, percentile, entropy"),
        ({"max_drop": -0.1}, "max_drop"),
        ({"max_drop": math.nan}, "max_drop"),
    ],
)
def test_options_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        ExportOptions(precision="int8", **settings)


def test_int8_wants_images_and_a_backbone(tmp_path: Path) -> None:
    options = ExportOptions(precision="int8")
    with pytest.raises(UsageError, match="--calibrate"):
        export_onnx(small_model(sabotaged=False), tmp_path / "model.onnx", options)
    head = EmbeddingModel(ModelConfig("features", GSPConfig(8, embedding_dim=4), None))
    with pytest.raises(UsageError, match="head alone"):
        export_onnx(head, tmp_path / "model.onnx", options)
    assert os.listdir(tmp_path) == []

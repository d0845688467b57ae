"""Model repositories: they fit Triton's schema, and their models run."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import onnxruntime
import pytest
from google.protobuf import text_format
from PIL import Image
from tritonclient.grpc import model_config_pb2 as schema

from gsp_deploy import PreprocessingSpec, load_checkpoint, open_session
from gsp_deploy.artifact import TensorSpec, read_sidecar, write_sidecar
from gsp_deploy.artifact.engine_manifest import (
    EngineManifest,
    PluginRecord,
    PrecisionSummary,
    ShapeRange,
)
from gsp_deploy.base.files import sha256_of
from gsp_deploy.errors import ModelFileError, UsageError
from gsp_deploy.export import ExportOptions, export_onnx
from gsp_deploy.images.normalisation import normalise
from gsp_deploy.images.preprocessing import load_image
from gsp_deploy.triton import GoldenVectors, TritonOptions, write_triton_repository
from gsp_deploy.triton.configuration import WARM_UP_FILE
from gsp_deploy.triton.normaliser import normaliser
from gsp_deploy.triton.pbtxt import Word, to_pbtxt

from .servers import running_server

SIDE = 32


def golden(embeddings: np.ndarray | None = None) -> GoldenVectors:
    draw = np.random.default_rng(0)
    pixels = draw.integers(0, 256, (3, SIDE, SIDE, 3), dtype=np.uint8)
    return GoldenVectors(pixels, np.ones((3, 8), np.float32) if embeddings is None else embeddings)


def config_of(folder: Path, model: str) -> schema.ModelConfig:
    """Parse a configuration by Triton's schema: an unknown field or type is an error."""
    text = (folder / model / "config.pbtxt").read_text()
    parsed = text_format.Parse(text, schema.ModelConfig())
    assert parsed.name == model
    return parsed


@pytest.fixture(scope="module")
def repository(tiny_export: str, tmp_path_factory: pytest.TempPathFactory):
    """Return the repository of a model with float input, which has an ensemble."""
    folder = tmp_path_factory.mktemp("triton") / "repository"
    with open_session(tiny_export) as session:
        images = golden(session.embed(golden().pixels))
    return write_triton_repository(tiny_export, folder, images, TritonOptions(max_batch=8))


@pytest.fixture
def pixel_export(tiny_export: str, tmp_path: Path) -> Path:
    """Return a file with a manifest that says it takes pixels; no test runs it."""
    path, pixels = tmp_path / "pixels.onnx", TensorSpec("images", "uint8", ("batch", SIDE, SIDE, 3))
    shutil.copyfile(tiny_export, path)
    manifest = read_sidecar(tiny_export)
    assert manifest is not None
    write_sidecar(replace(manifest, inputs=(pixels,), includes_preprocessing=True), path)
    return path


def test_the_ensemble_joins_models_of_the_repository(repository) -> None:
    folder = repository.folder
    ensemble = config_of(folder, "tiny")
    assert ensemble.platform == "ensemble"
    assert [tuple(i.dims) for i in ensemble.input] == [(SIDE, SIDE, 3)]
    assert ensemble.input[0].data_type == schema.TYPE_UINT8
    known = {tensor.name for tensor in ensemble.input}
    for step in ensemble.ensemble_scheduling.step:
        model = config_of(folder, step.model_name)
        assert set(step.input_map) == {tensor.name for tensor in model.input}
        assert set(step.output_map) == {tensor.name for tensor in model.output}
        assert set(step.input_map.values()) <= known
        known |= set(step.output_map.values())
        assert model.max_batch_size >= ensemble.max_batch_size == 8
    assert {tensor.name for tensor in ensemble.output} <= known
    assert repository.models == ("tiny", "tiny_normalise", "tiny_network")
    assert all((folder / model / "1").is_dir() for model in repository.models)


def test_the_network_is_batched_warmed_up_and_placed(repository) -> None:
    network = config_of(repository.folder, "tiny_network")
    assert network.backend == "onnxruntime"
    assert network.default_model_filename == "model.onnx"
    assert network.dynamic_batching.preferred_batch_size == [8]
    assert network.dynamic_batching.max_queue_delay_microseconds == 2000
    assert network.dynamic_batching.default_queue_policy.max_queue_size == 256
    assert network.instance_group[0].kind == schema.ModelInstanceGroup.KIND_AUTO
    assert network.optimization.input_pinned_memory.enable
    assert [warm.batch_size for warm in network.model_warmup] == [1, 8]
    size = 4 * np.prod(network.model_warmup[0].inputs["images"].dims)
    raw = (repository.folder / "tiny_network" / "warmup" / WARM_UP_FILE).read_bytes()
    assert len(raw) == size
    spec = PreprocessingSpec(SIDE, SIDE)
    np.testing.assert_array_equal(
        np.frombuffer(raw, np.float32), normalise(golden().pixels[:1], spec).ravel()
    )


def test_the_models_in_the_ensemble_give_the_embeddings(repository, tiny_export: str) -> None:
    pixels = golden().pixels
    steps = [
        onnxruntime.InferenceSession(repository.folder / model / "1" / "model.onnx")
        for model in repository.models[1:]
    ]
    (normalised,) = steps[0].run(None, {"pixels": pixels})
    (found,) = steps[1].run(["embedding"], {"images": normalised})
    with open_session(tiny_export) as session:
        np.testing.assert_allclose(found, session.embed(pixels), atol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_the_normaliser_equals_numpys(dtype: str) -> None:
    spec = PreprocessingSpec(5, 6, mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))
    model = normaliser(spec, TensorSpec("x", dtype, ("batch", 3, 5, 6)))
    session = onnxruntime.InferenceSession(model.SerializeToString())
    pixels = np.random.default_rng(1).integers(0, 256, (2, 5, 6, 3), dtype=np.uint8)
    (found,) = session.run(None, {"pixels": pixels})
    assert found.dtype == np.dtype(dtype)
    np.testing.assert_allclose(
        found, normalise(pixels, spec), atol=1e-6 if dtype == "float32" else 2e-3
    )


def test_a_model_that_takes_pixels_needs_no_ensemble(pixel_export: Path, tmp_path: Path) -> None:
    made = write_triton_repository(
        pixel_export,
        tmp_path / "repo",
        golden(),
        TritonOptions(placement="cpu", threads=2, instances=3),
        name="search-v2",
    )
    assert made.models == ("search-v2",)
    config = config_of(made.folder, "search-v2")
    assert config.input[0].data_type == schema.TYPE_UINT8
    assert config.instance_group[0].kind == schema.ModelInstanceGroup.KIND_CPU
    assert config.instance_group[0].count == 3
    assert config.parameters["intra_op_thread_count"].string_value == "2"
    raw = (made.folder / "search-v2" / "warmup" / WARM_UP_FILE).read_bytes()
    assert raw == golden().pixels[0].tobytes()


def run_client(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, folder / "client.py", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def test_the_client_embeds_files_and_checks_the_golden_images(
    repository, tiny_export: str, tmp_path: Path
) -> None:
    files = []
    for index, size in enumerate(((50, 40), (33, 90), (32, 32))):
        pixels = np.random.default_rng(index).integers(0, 256, (*size, 3), dtype=np.uint8)
        files.append(tmp_path / f"{index}.png")
        Image.fromarray(pixels).save(files[-1])
    spec = PreprocessingSpec(SIDE, SIDE)
    with open_session(tiny_export) as session:
        expected = session.embed(np.stack([load_image(file, spec) for file in files]))
        with running_server(session) as running:
            url = urlsplit(running.url).netloc
            running.service.name = "tiny"
            output = tmp_path / "out.npy"
            ran = run_client(repository.folder, *files, "-u", url, "-o", output, "-b", 2)
            assert ran.returncode == 0, ran.stderr
            checked = run_client(repository.folder, "--check", "-u", url)
    np.testing.assert_allclose(np.load(output), expected, atol=1e-5)
    assert (checked.returncode, checked.stdout[:6]) == (0, "agrees")


def test_the_client_detects_another_model(tiny_export: str, tmp_path: Path) -> None:
    turned = np.random.default_rng(0).standard_normal((3, 8)).astype(np.float32)
    made = write_triton_repository(tiny_export, tmp_path / "repo", golden(turned))
    with open_session(tiny_export) as session, running_server(session) as running:
        running.service.name = "tiny"
        checked = run_client(made.folder, "--check", "-u", urlsplit(running.url).netloc)
    assert (checked.returncode, checked.stdout[:7]) == (3, "DIFFERS")


def test_errors_of_the_client_are_one_line(repository, tiny_export: str, tmp_path: Path) -> None:
    image, nothing = tmp_path / "0.png", tmp_path / "none.png"
    Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(image)
    output = tmp_path / "out.npy"
    with open_session(tiny_export) as session, running_server(session) as running:
        url = urlsplit(running.url).netloc  # its model is named m, the repository's tiny
        for arguments, code, words in (
            ((), 2, "name at least one image, or --check"),
            ((image, "-b", 0), 2, "--batch must be at least 1, got 0"),
            ((nothing, "-u", url), 1, "none.png"),
            ((image, "-u", url), 1, "no model 'tiny'"),
            (("--check", "-u", url), 1, "no model 'tiny'"),
            ((image, "-u", "localhost:1"), 1, "localhost:1: Connection refused"),
        ):
            ran = run_client(repository.folder, *arguments, "-o", output)
            assert (ran.returncode, ran.stdout) == (code, "")
            assert words in ran.stderr.splitlines()[-1], ran.stderr
            assert code == 2 or ran.stderr.startswith("error: ")
            assert "Traceback" not in ran.stderr
    assert not output.exists()


def test_the_readmes_commands_fit_the_repository(repository) -> None:
    text = (repository.folder / "README.md").read_text()
    assert "--model-repository=/models" in text
    assert f"perf_analyzer -m tiny -u localhost:8001 -i grpc --shape pixels:{SIDE},{SIDE},3" in text
    assert "{" not in text


def plan(folder: Path, tiny_export: str, **changes: object) -> Path:
    """Write a stand-in for a plan, with a plan's manifest."""
    path, export = folder / "model.engine", read_sidecar(tiny_export)
    path.write_bytes(b"plan")
    shapes = [(batch, 3, SIDE, SIDE) for batch in (1, 4, 16)]
    settings = {
        "plan_sha256": sha256_of(path),
        "plan_bytes": 4,
        "onnx_name": "tiny.onnx",
        "onnx_sha256": "0" * 64,
        "flavour": "tensorrt",
        "tensorrt_version": "10.3.0",
        "cuda_version": "12.6",
        "platform": "linux x86_64",
        "device": "Orin",
        "compute_capabilities": ("8.7",),
        "hardware_compatibility": "none",
        "version_compatible": False,
        "profiles": ({"images": ShapeRange(*shapes)},),
        "inputs": export.inputs,
        "outputs": export.outputs,
        "layers": 10,
        "precision": PrecisionSummary("fp32", "network", {"float32": 10}),
        "plugin": None,
        "export": export,
    }
    write_sidecar(EngineManifest(**{**settings, **changes}), path)
    return path


def test_a_plan_is_run_by_the_tensorrt_backend(tiny_export: str, tmp_path: Path) -> None:
    record = PluginRecord("GeneralizedSumPooling", "gsp.deploy", "1", "libgsp.so", "0" * 64, 1)
    engine = plan(tmp_path, tiny_export, plugin=record, version_compatible=True)
    with pytest.raises(UsageError, match=r"libgsp\.so; pass --plugin"):
        write_triton_repository(engine, tmp_path / "repo", golden())
    library = tmp_path / "libgsp.so"
    library.write_bytes(b"library")
    made = write_triton_repository(engine, tmp_path / "repo", golden(), plugin=library)
    network = config_of(made.folder, "model_network")
    assert (network.backend, network.default_model_filename) == ("tensorrt", "model.plan")
    assert network.max_batch_size == config_of(made.folder, "model").max_batch_size == 16
    assert network.instance_group[0].kind == schema.ModelInstanceGroup.KIND_GPU
    assert list(network.instance_group[0].profile) == ["0"]
    assert network.optimization.cuda.graphs
    assert (made.folder / "model_network" / "1" / "model.plan").read_bytes() == b"plan"
    text = (made.folder / "README.md").read_text()
    plugin = "/models/model_network/plugins/libgsp.so"
    assert f"--backend-config=tensorrt,plugins={plugin}" in text
    assert (made.folder / plugin.removeprefix("/models/")).read_bytes() == b"library"
    assert "--backend-config=tensorrt,version-compatible=true" in text


def test_one_number_per_image_has_a_dimension_for_clients(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    """Triton refuses empty dims; a reshape to none lets it take a graph's (batch,)."""
    model, options = load_checkpoint(tiny_checkpoint), ExportOptions(outputs=("residual",))
    path = export_onnx(model, tmp_path / "m.onnx", options).path
    folder = tmp_path / "repository"
    with open_session(path) as session:
        write_triton_repository(path, folder, golden(), TritonOptions())
        names = [name for name in session.info.outputs if name != "embedding"]
    for file in folder.glob("*/config.pbtxt"):
        parsed = config_of(folder, file.parent.name)
        outputs = {output.name: output for output in parsed.output if output.name in names}
        for output in outputs.values():
            assert list(output.dims) == [1]
            # An ensemble passes on the outputs of its models and has no reshape.
            assert output.HasField("reshape") == (parsed.platform != "ensemble")
            assert list(output.reshape.shape) == []
        if "network" in parsed.name or parsed.platform == "ensemble":
            assert set(outputs) == {"residual", "embedding_bound"}


def test_models_triton_cannot_serve_are_refused(
    tiny_export, tiny_checkpoint, tmp_path: Path
) -> None:
    target = tmp_path / "repo"
    with pytest.raises(UsageError, match="export the checkpoint first"):
        write_triton_repository(tiny_checkpoint, target, golden())
    with pytest.raises(ModelFileError, match="no such model"):
        write_triton_repository(tmp_path / "gone.onnx", target, golden())
    rtx = plan(tmp_path, tiny_export, flavour="tensorrt-rtx")
    with pytest.raises(UsageError, match="this one is of tensorrt-rtx"):
        write_triton_repository(rtx, target, golden())
    engine, options = plan(tmp_path, tiny_export), TritonOptions(placement="cpu")
    with pytest.raises(UsageError, match="GPU only"):
        write_triton_repository(engine, target, golden(), options)
    with pytest.raises(UsageError, match="leave --plugin out"):
        write_triton_repository(tiny_export, target, golden(), plugin=Path(tiny_export))
    with pytest.raises(UsageError, match="pass --name"):
        write_triton_repository(tiny_export, target, golden(), name="a/b")
    assert not target.exists()


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"max_batch": 0}, "max_batch"),
        ({"queue_delay_us": -1}, "queue_delay_us"),
        ({"instances": 0}, "instances"),
        ({"placement": "tpu"}, "auto, cpu, gpu"),
    ],
)
def test_options_outside_their_domain(settings, named) -> None:
    with pytest.raises(UsageError, match=named):
        TritonOptions(**settings)


def test_text_form_of_messages() -> None:
    message = {"a": 'x"\\\n', "b": [1, 2], "c": {"d": Word("KIND_GPU"), "e": True}, "f": [{}, {}]}
    assert to_pbtxt(message) == (
        'a: "x\\"\\\\\\n"\nb: 1\nb: 2\nc {\n  d: KIND_GPU\n  e: true\n}\nf {\n}\nf {\n}\n'
    )

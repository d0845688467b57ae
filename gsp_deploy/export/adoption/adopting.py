"""Adopt a network: read it, adapt its ends, compare it with itself, write it with a manifest."""

from __future__ import annotations

import os
from pathlib import Path

import onnx_ir as ir
from onnx_ir.passes import common as passes

import gsp_deploy
from gsp_deploy.artifact import ExportManifest
from gsp_deploy.artifact.artifact import Artifact
from gsp_deploy.artifact.identity import identity
from gsp_deploy.base.environment import package_versions
from gsp_deploy.base.files import refuse_inputs_inside
from gsp_deploy.base.progress import Announce
from gsp_deploy.config import AdoptedHead, ModelConfig, PreprocessingSpec, backbone_name
from gsp_deploy.export.adoption.ends import ImageInput, give_embedding, image_input, take_images
from gsp_deploy.export.adoption.pixels import cast_before_turning
from gsp_deploy.export.adoption.precision import precision_of
from gsp_deploy.export.adoption.reading import blaming, read_network
from gsp_deploy.export.adoption.trial import Rehearsal, own_answer
from gsp_deploy.export.graph import IR_VERSION
from gsp_deploy.export.model_file import spec_of, write_model
from gsp_deploy.export.trial_run import running


def adopt_onnx(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    preprocessing: PreprocessingSpec,
    *,
    output: str | None = None,
    normalize: bool = False,
    external_data: bool = False,
    license: str | None = None,
    announce: Announce = lambda line: None,
) -> Artifact[ExportManifest]:
    """Write an embedding network in ONNX of any exporter as a model that every command reads.

    The network's computation stays as it is: nothing is pooled. Only its ends change. The input
    gets the name `images` and an export's layout; the output gets the name `embedding`. Both forms
    are run on random pixels, and must give the same answers. Open sizes are run at another size;
    one that fails is fixed, and `announce` gets a line.

    Args:
        source: the `.onnx` file. Its input is float32, float16 or bfloat16 and normalised, or uint8
            pixels; `(B, 3, H, W)` or `(B, H, W, 3)`. One of its outputs is an embedding `(B, D)`,
            or has further sizes that are all 1.
        target: the `.onnx` file to write; its manifest goes to `<target>.json`.
        preprocessing: how an image becomes the input. Networks that take uint8 pixels normalise
            themselves, so mean and std of the settings are not used then.
        output: name of the output, if the file has several.
        normalize: append an L2 normalisation.
        external_data: put the weights in a file of their own even below 2 GB.
        license: SPDX identifier of the weights' licence.
        announce: is called with each remark.

    Raises:
        UsageError: the file's input, outputs or size do not fit the arguments, or the target is
            the source.
        ModelFileError: the file is missing or damaged, or the output is not one vector per image.
        GspDeployError: ONNX Runtime cannot run the network.
    """
    path = Path(source)
    refuse_inputs_inside(Path(target), [path])
    network = read_network(path, output)
    called = str(network.graph.outputs[0].name)
    with blaming(path):
        images = image_input(network, path)
        spec = images.settle(preprocessing, path)
        precision = precision_of(network)
        expected = own_answer(network, images, spec)
        take_images(network, images)
        cast_before_turning(network.graph)
        dim = give_embedding(network, expected.shape, normalize, path)
        _finish(network)
        with running(network) as graph:
            rehearsal = Rehearsal(graph, spec)
            rehearsal.compare(expected, normalize, precision)
            sizes = rehearsal.settle(images)
        set_sizes(network, sizes)
    if expected.ndim > 2:
        announce(f"output {called} is {expected.shape[1:]} per image; its sizes of 1 are left out")
    for note in rehearsal.notes:
        announce(note)
    notes = f"adopted from {path.name}, output {called}"
    manifest = ExportManifest(
        model=ModelConfig(backbone_name(path.stem), AdoptedHead(dim, normalize), spec),
        precision=precision,
        opset=network.opset_imports[""],
        inputs=tuple(map(spec_of, network.graph.inputs)),
        outputs=tuple(map(spec_of, network.graph.outputs)),
        includes_preprocessing=images.takes_pixels,
        certificate=None,
        versions=package_versions(("onnx", "onnx_ir", "onnxruntime")),
        source_sha256=identity(path),
        provenance={"license": license, "notes": notes},
    )
    return write_model(network, Path(target), manifest, external_data)


def image_input_of(source: str | os.PathLike[str], output: str | None = None) -> ImageInput:
    """Return the input of images that leads to an output of a network.

    Raises:
        UsageError, ModelFileError: as `adopt_onnx` does.
    """
    path = Path(source)
    network = read_network(path, output)
    with blaming(path):
        return image_input(network, path)


def _finish(network: ir.Model) -> None:
    """Order the nodes, and infer the shapes again, because their old names of sizes are gone."""
    for node in network.graph:
        for value in node.outputs:
            if not value.is_graph_output():
                value.shape = None
    passes.TopologicalSortPass()(network)
    network.producer_name, network.producer_version = "gsp-deploy", gsp_deploy.__version__
    network.ir_version = max(network.ir_version, IR_VERSION)
    passes.ShapeInferencePass()(network)


def set_sizes(network: ir.Model, sizes: tuple[int | str, int | str, int | str]) -> None:
    """Set batch, height and width of the input; a word leaves a size open."""
    batch, height, width = sizes
    source, result = network.graph.inputs[0], network.graph.outputs[0]
    assert source.shape is not None
    assert result.shape is not None
    is_pixels = source.dtype == ir.DataType.UINT8
    dims = [batch, height, width, 3] if is_pixels else [batch, 3, height, width]
    if list(source.shape) == dims:
        return
    source.shape = ir.Shape(dims)
    result.shape = ir.Shape([batch, result.shape[1]])
    _finish(network)

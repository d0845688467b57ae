"""Quantise an adopted network to int8, judged by retrieval."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import onnx_ir as ir
from onnx_ir.passes import common as passes

from gsp_deploy.artifact import ExportManifest
from gsp_deploy.artifact.artifact import Artifact
from gsp_deploy.base.progress import Announce
from gsp_deploy.config import AdoptedHead
from gsp_deploy.errors import UsageError
from gsp_deploy.export.adoption.draft import AdoptedDraft
from gsp_deploy.export.conversion import refuse_precision
from gsp_deploy.export.model_file import (
    EXTERNAL_DATA_BYTES,
    read_model,
    weight_bytes,
    write_model,
)
from gsp_deploy.export.opset import raise_opset
from gsp_deploy.export.options import ExportOptions
from gsp_deploy.export.plan import NOTHING_TO_SOLVE
from gsp_deploy.export.quantisation import QuantisationImages, cache_path, quantise_draft

# The first opset whose DequantizeLinear has one scale per channel.
_PER_CHANNEL_OPSET = 13


def quantise_adopted(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    images: QuantisationImages,
    options: ExportOptions | None = None,
    announce: Announce = lambda line: None,
) -> Artifact[ExportManifest]:
    """Write an adopted float32 network in int8.

    If no attempt keeps the allowed drop, the best one is written, and
    `manifest.quantisation.passed` is False. The activation ranges are kept in
    `<target>.calibration.json`.

    Args:
        source: the adopted file.
        target: where to write.
        images: images to calibrate and to validate on.
        options: method of calibration and allowed drop; None is an export's.
        announce: is called with a line at each stage.

    Raises:
        UsageError: the file is not adopted, or not float32.
        GspDeployError: the network has no layer to quantise.
    """
    network, manifest = read_model(Path(source), "adopt it first: gsp-deploy adopt")
    refuse_precision(source, manifest, "int8")
    if not isinstance(manifest.model.head, AdoptedHead):
        raise UsageError(
            f"{source} is an export of gsp-deploy; export its checkpoint with --precision int8 "
            "--calibrate FOLDER"
        )
    if weight_bytes(network) > EXTERNAL_DATA_BYTES:
        raise UsageError(
            f"{source} has weights of more than {EXTERNAL_DATA_BYTES / 1e9:g} GB, which the "
            "quantiser cannot hold; convert it to fp16 instead"
        )
    ir.external_data.load_to_model(network)  # the quantiser takes one message
    network = raise_opset(network, _PER_CHANNEL_OPSET, source)
    passes.ShapeInferencePass()(network)
    draft = AdoptedDraft(manifest.model, options or ExportOptions(precision="int8"), network)
    quantised, record = quantise_draft(
        draft, NOTHING_TO_SOLVE, images, cache_path(Path(target)), announce
    )
    described = replace(
        manifest,
        precision="int8",
        opset=quantised.backbone.opset_imports[""],
        quantisation=record,
        sha256=None,
    )
    return write_model(
        quantised.backbone, Path(target), described, manifest.external_data is not None
    )

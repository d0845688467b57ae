"""Rewriting an exported file into another form, without the checkpoint that it came from."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from gsp_deploy.artifact import ExportManifest
from gsp_deploy.artifact.artifact import Artifact
from gsp_deploy.artifact.pooling_node import PoolingForm
from gsp_deploy.errors import UsageError
from gsp_deploy.export.model_file import read_model, write_model
from gsp_deploy.export.plugin_node import drop_body, fold_pooling


def rewrite_pooling(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    form: PoolingForm,
    external_data: bool = False,
) -> Artifact[ExportManifest]:
    """Write an export of ours with its pooling in another form; what it computes stays the same.

    The manifest, its certificate included, is carried over: the solver is the same to the node.

    Args:
        source: an ONNX file of `export_onnx`, whose metadata says what it is.
        target: where to write.
        form: `plugin` or `plugin-bare`.
        external_data: put the weights in a file of their own; those of a source that has them
            there go there anyway.

    Raises:
        UsageError: the file cannot be brought into that form.
        ModelFileError: it is missing, damaged, or not of ours.
    """
    network, manifest = read_model(
        Path(source), "export the checkpoint with --pooling plugin instead"
    )
    if form == "unrolled" or manifest.pooling_form == "plugin-bare":
        raise UsageError(
            f"{source} has its pooling in the form {manifest.pooling_form}, from which there is no "
            f"way to {form}; export the checkpoint again"
        )
    if manifest.pooling_form == form:
        raise UsageError(f"{source} has its pooling in the form {form} already")
    if manifest.pooling_form == "plugin":
        drop_body(network)
    else:
        fold_pooling(network, manifest, form)
    described = replace(manifest, pooling_form=form)
    beside = external_data or manifest.external_data is not None
    return write_model(network, Path(target), described, beside)

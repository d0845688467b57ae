"""Rewrite an exported file with its pooling in another form, without its checkpoint."""

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
    """Write an exported file with its pooling in another form; it computes the same results.

    The manifest and its certificate are kept, because every node of the solver is the same.

    Args:
        source: an ONNX file that `export_onnx` wrote, with its manifest in the metadata.
        target: where to write.
        form: `plugin` or `plugin-bare`.
        external_data: put the weights in a separate file. This always happens if the weights of
            the source are in a separate file.

    Raises:
        UsageError: the file cannot be rewritten in that form.
        ModelFileError: the file is missing or damaged, or gsp-deploy did not export it.
    """
    network, manifest = read_model(
        Path(source), "export the checkpoint with --pooling plugin instead"
    )
    if form == "unrolled" or manifest.pooling_form == "plugin-bare":
        raise UsageError(
            f"{source} has its pooling in the form {manifest.pooling_form}, which cannot be "
            f"rewritten as {form}; export the checkpoint again"
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

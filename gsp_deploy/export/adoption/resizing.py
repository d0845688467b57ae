"""Copy an adopted network with a fixed image size."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from gsp_deploy.artifact import ExportManifest
from gsp_deploy.artifact.artifact import Artifact
from gsp_deploy.config import PreprocessingSpec
from gsp_deploy.errors import UsageError
from gsp_deploy.export.adoption.adopting import set_sizes
from gsp_deploy.export.model_file import read_model, spec_of, write_model


def copy_at_size(
    source: str | os.PathLike[str], target: str | os.PathLike[str], spec: PreprocessingSpec
) -> Artifact[ExportManifest]:
    """Write an adopted network for images of one size; what else it computes stays.

    Args:
        source: the adopted file.
        target: where to write.
        spec: the size, and how images are prepared.

    Raises:
        UsageError: the network is made for another size.
    """
    network, manifest = read_model(Path(source), "adopt it first: gsp-deploy adopt")
    is_pixels = manifest.includes_preprocessing
    batch, *rest = manifest.inputs[0].shape
    own = rest[:2] if is_pixels else rest[1:]
    if any(
        isinstance(a, int) and a != b for a, b in zip(own, (spec.height, spec.width), strict=True)
    ):
        raise UsageError(
            f"{source} is made for images of {'x'.join(map(str, own))}, got {spec.height}x"
            f"{spec.width}"
        )
    set_sizes(network, (batch, spec.height, spec.width))
    described = replace(
        manifest,
        model=replace(manifest.model, preprocessing=spec),
        inputs=tuple(map(spec_of, network.graph.inputs)),
        outputs=tuple(map(spec_of, network.graph.outputs)),
        sha256=None,
    )
    return write_model(network, Path(target), described, manifest.external_data is not None)

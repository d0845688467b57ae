"""Bundles: a folder with a model and everything that a target machine needs to check it.

    package_model("model.onnx", "bundle")        # where the model was exported
    verify_bundle("bundle").raise_on_failure()   # on the target
    with open_bundle("bundle") as session:
        embeddings = session.embed(images)

To open or verify a bundle you need numpy, Pillow and the runtime. The C++ library in
`plugins/runtime` reads the same folder.
"""

from __future__ import annotations

from gsp_deploy.artifact.bundle_manifest import BundleManifest, read_bundle_manifest
from gsp_deploy.bundle.opening import BundleOptions, open_bundle
from gsp_deploy.bundle.verification import BundleCheck, BundleReport, verify_bundle

__all__ = [
    "BundleCheck",
    "BundleManifest",
    "BundleOptions",
    "BundleReport",
    "open_bundle",
    "read_bundle_manifest",
    "verify_bundle",
]

"""Cache activation ranges beside the model, so that a second export need not calibrate again."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import onnx_ir as ir
import onnxruntime

from gsp_deploy.base.files import write_text
from gsp_deploy.base.inputs import read_regular_text
from gsp_deploy.base.progress import Announce
from gsp_deploy.export.calibration import Calibration
from gsp_deploy.export.quantisation.ranges import SETTINGS, Ranges, calibrate_ranges

FORMAT_VERSION = 1


def cache_path(model: Path) -> Path:
    """Return the path of a model's ranges: `<model>.calibration.json`."""
    return model.with_name(model.name + ".calibration.json")


def cached_ranges(
    backbone: ir.Model,
    calibration: Calibration,
    method: str,
    cache: Path | None,
    announce: Announce,
) -> Ranges:
    """Return the ranges from the cache if it matches, else calibrate and write the cache.

    It matches if the float32 backbone, the images' pixels, the method with its settings and the
    version of ONNX Runtime are the same. A damaged cache is replaced.
    """
    key = _key(backbone, calibration, method)
    if cache is not None and (known := _read(cache, key)) is not None:
        announce(f"activation ranges taken from {cache.name}")
        return known
    announce(f"calibrating on {calibration.source}, {method}")
    ranges = calibrate_ranges(backbone, calibration, method)
    if cache is not None:
        document = {"format": FORMAT_VERSION, "key": key, "method": method, "ranges": dict(ranges)}
        write_text(cache, json.dumps(document, indent=1) + "\n")
    return ranges


def _key(backbone: ir.Model, calibration: Calibration, method: str) -> str:
    digest = hashlib.sha256()
    settings = {"method": method, "onnxruntime": onnxruntime.__version__, **SETTINGS[method]}
    digest.update(json.dumps(settings, sort_keys=True).encode())
    digest.update(ir.serde.serialize_model(backbone).SerializeToString(deterministic=True))
    digest.update(str(calibration.inputs.shape).encode())
    digest.update(calibration.inputs.tobytes())
    digest.update(repr(calibration.preprocessing).encode())
    return digest.hexdigest()


def _read(cache: Path, key: str) -> Ranges | None:
    """Return the ranges that a cache holds under this key, or None."""
    try:
        document = json.loads(read_regular_text(cache))
        if (document["format"], document["key"]) != (FORMAT_VERSION, key):
            return None
        pairs = document["ranges"].items()
        return {str(name): (float(low), float(high)) for name, (low, high) in pairs}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None

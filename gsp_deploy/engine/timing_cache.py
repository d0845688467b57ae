"""Read and write the file of kernel timings that speeds up later builds; TensorRT's own format."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from gsp_deploy.base.files import replacing
from gsp_deploy.base.progress import Announce
from gsp_deploy.engine.api import TensorRT
from gsp_deploy.errors import GspDeployError, reason_of

ASIDE = ".aside"


def attach_timing_cache(
    tensorrt: TensorRT, config: Any, path: Path, log: Any, announce: Announce
) -> bool:
    """Give a build the cache in `path`, or a new one; return whether to save one afterwards.

    A cache of another device or version of TensorRT is moved to `<path>.aside` and reported to
    `announce`, because TensorRT would refuse to build with it.

    Raises:
        GspDeployError: the file cannot be read or moved.
    """
    if not tensorrt.times_tactics:
        announce(f"{tensorrt.name} times no kernels, so that {path} is left as it is")
        return False
    try:
        known = path.read_bytes() if path.is_file() else b""
        if known and not _accepted(config, known, log):
            aside = path.with_name(path.name + ASIDE)
            os.replace(path, aside)
            announce(
                f"{path} belongs to another device or version of TensorRT, or is damaged: set "
                f"aside as {aside.name}, a new one is begun"
            )
            known = b""
    except OSError as error:
        raise GspDeployError(
            f"{path}: the timing cache cannot be read: {reason_of(error)}"
        ) from error
    return bool(known) or _accepted(config, b"", log)


def save_timing_cache(config: Any, path: Path) -> None:
    """Write the timings after a build."""
    cache = config.get_timing_cache()
    if cache is not None:
        with replacing(path) as temporary:
            temporary.write_bytes(bytes(cache.serialize()))


def _accepted(config: Any, known: bytes, log: Any) -> bool:
    """Whether the build accepts the cache. TensorRT rejects a foreign one in three ways."""
    before = len(log.errors) + len(log.warnings)
    cache = config.create_timing_cache(known)
    if cache is None or not config.set_timing_cache(cache, False):
        return False
    messages = [*log.errors, *log.warnings]
    return len(messages) == before or not any("cache" in line.lower() for line in messages)

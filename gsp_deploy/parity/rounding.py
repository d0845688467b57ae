"""Open a model so that float16 rounds on the CPU as it does on a GPU."""

from __future__ import annotations

import dataclasses
import os
import tempfile
from pathlib import Path

from gsp_deploy.artifact.kind import ONNX, kind_of
from gsp_deploy.precision import PRECISIONS
from gsp_deploy.runtime import EmbeddingSession, SessionOptions, implied_device, open_with

_CPU = "CPU"


def open_rounding(
    path: str | os.PathLike[str], options: SessionOptions | None = None
) -> EmbeddingSession:
    """Open a model as `open_with` does, but with float16 rounded on the CPU as well.

    ONNX Runtime's CPU provider computes a float16 graph in float32 and rounds only the weights:
    faster, but its errors differ from a GPU's, where every result is rounded and becomes infinite
    beyond 65504. Such a graph is opened with explicit Cast nodes that round.
    """
    source = Path(path)
    options = options or SessionOptions(implied_device([source]))
    session = open_with(source, options)
    if kind_of(source) is not ONNX or session.info.device != _CPU:
        return session
    widened = _with_rounding(source)
    if widened is None:
        return session
    session.close()
    with tempfile.TemporaryDirectory(prefix="gsp-check-") as folder:
        copy = Path(folder) / source.name
        copy.write_bytes(widened)
        rounding = open_with(copy, options)
    rounding.info = dataclasses.replace(
        session.info,
        device=f"{_CPU}, float16 emulated",
        input=rounding.info.input,
        emulated=True,
    )
    return rounding


def _with_rounding(path: Path) -> bytes | None:
    """Return the model with explicit rounding, or None if it has nothing to round."""
    import onnx  # here, so that checkpoints can be compared where onnx is not installed

    from gsp_deploy.artifact.half_precision import widen

    # First without the weights, since those of a model over 2 GB do not fit into one message.
    graph = onnx.load(path, load_external_data=False).graph
    types = {value.type.tensor_type.elem_type for value in graph.value_info}
    types |= {weight.data_type for weight in graph.initializer}
    unrounded = (row.element for row in PRECISIONS.values() if row.emulated_on_cpu)
    found = (e for e in unrounded if onnx.TensorProto.DataType.Value(e.onnx) in types)
    return next((made for e in found if (made := widen(path, e)) is not None), None)

"""The KServe v2 inference protocol over HTTP: requests, metadata, and outputs as tensors.

JSON tensors and the binary tensor extension, as Triton Inference Server documents them. This
module writes the replies, `infer_request` reads the requests.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from gsp_deploy.artifact import TensorSpec
from gsp_deploy.artifact.tensors import OUTPUTS
from gsp_deploy.base.elements import ELEMENTS
from gsp_deploy.errors import RequestError
from gsp_deploy.runtime.session import SessionInfo
from gsp_deploy.serving.infer_request import HEADER_LENGTH, InferRequest, parse_infer
from gsp_deploy.serving.json_numbers import json_from_array
from gsp_deploy.serving.routes import VERSION

__all__ = [
    "HEADER_LENGTH",
    "VERSION",
    "InferRequest",
    "check_finite",
    "check_reply_size",
    "model_metadata",
    "parse_infer",
    "server_metadata",
    "write_infer",
]

EXTENSIONS = ("binary_tensor_data",)
OUTPUT_DATATYPE = "FP32"  # every session's outputs are float32
LONGEST_NUMBER = 26  # bytes of one number in JSON, with its comma


def server_metadata(name: str, version: str) -> dict[str, Any]:
    """Return the reply to `GET /v2`."""
    return {"name": name, "version": version, "extensions": list(EXTENSIONS)}


def model_metadata(name: str, info: SessionInfo) -> dict[str, Any]:
    """Return the reply to `GET /v2/models/<name>`; open sizes are -1."""
    declared = (
        {tensor.name: tensor.shape for tensor in info.manifest.outputs} if info.manifest else {}
    )
    # Without a manifest, only the names of sizes are known.
    shapes = {**OUTPUTS, **declared, "embedding": ("batch", info.embedding_dim)}
    return {
        "name": name,
        "versions": [VERSION],
        "platform": f"{info.runtime} {info.device}",
        "inputs": [_tensor(info.input)],
        "outputs": [
            {"name": output, "datatype": OUTPUT_DATATYPE, "shape": _sizes(shapes[output])}
            for output in info.outputs
        ],
    }


def check_finite(found: Mapping[str, np.ndarray], wanted: Iterable[str]) -> None:
    """Refuse NaN and infinity in outputs: JSON cannot hold them, and no search can use them.

    Args:
        found: the outputs.
        wanted: names of the outputs in the reply.

    Raises:
        RequestError: 422, if one of them has a NaN or an infinity.
    """
    for name in wanted:
        array = found[name]
        if not np.isfinite(array).all():
            bad = ~np.isfinite(array.reshape(len(array), -1)).all(axis=1)
            raise RequestError(
                422,
                f"the {name} of image {int(bad.argmax())} is not finite: its values overflow in "
                "the network; check how the image was normalised",
            )


def check_reply_size(
    found: Mapping[str, np.ndarray], binary: Mapping[str, bool], most: int
) -> None:
    """Refuse a reply that would be too long, before any of it is written.

    Args:
        found: the outputs.
        binary: for each output of the reply, whether it is written as bytes or as JSON.
        most: bytes of the longest reply.

    Raises:
        RequestError: 413, if the reply could be longer.
    """
    sizes = (
        found[name].nbytes if is_binary else found[name].size * LONGEST_NUMBER
        for name, is_binary in binary.items()
    )
    if (longest := sum(sizes)) > most:
        raise RequestError(
            413,
            f"the reply could take {longest:,} bytes, the limit is {most:,}; send fewer images, "
            "or ask for fewer outputs or for binary ones",
        )


def write_infer(
    request: InferRequest, name: str, found: Mapping[str, np.ndarray]
) -> tuple[dict[str, str], bytes]:
    """Return the headers and the body of the reply, given finite outputs."""
    tensors, blocks = [], []
    for wanted in request.outputs:
        array = np.ascontiguousarray(found[wanted.name], dtype="<f4")
        tensor: dict[str, Any] = {
            "name": wanted.name,
            "datatype": OUTPUT_DATATYPE,
            "shape": list(array.shape),
        }
        if wanted.binary:
            blocks.append(array.tobytes())
            tensor["parameters"] = {"binary_data_size": array.nbytes}
        tensors.append(_with_data(tensor, None if wanted.binary else array))
    document: dict[str, Any] = {"model_name": name, "model_version": VERSION}
    if request.id is not None:
        document["id"] = request.id
    header = _object(document, b'"outputs":[' + b",".join(tensors) + b"]")
    if not blocks:
        return {"Content-Type": "application/json"}, header
    headers = {"Content-Type": "application/octet-stream", HEADER_LENGTH: str(len(header))}
    return headers, b"".join((header, *blocks))


def _with_data(tensor: Mapping[str, Any], array: np.ndarray | None) -> bytes:
    return _object(tensor, b"" if array is None else b'"data":' + json_from_array(array))


def _object(members: Mapping[str, Any], last: bytes) -> bytes:
    """Return a JSON object of some members and one more that is already JSON text."""
    text = json.dumps(members, allow_nan=False).encode()
    return text[:-1] + b"," + last + b"}" if last else text


def _tensor(spec: TensorSpec) -> dict[str, Any]:
    return {
        "name": spec.name,
        "datatype": ELEMENTS[spec.dtype].kserve,
        "shape": _sizes(spec.shape),
    }


def _sizes(shape: Sequence[int | str]) -> list[int]:
    """Return a shape with -1 for open sizes; the batch is always open to a client."""
    return [-1, *(size if isinstance(size, int) else -1 for size in shape[1:])]

"""The KServe v2 inference protocol over HTTP: requests to arrays, arrays to replies.

JSON tensors and the binary tensor extension, as Triton Inference Server documents them. Only
this module knows the protocol's field names.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gsp_deploy.artifact import TensorSpec
from gsp_deploy.errors import RequestError, brief, reason_of
from gsp_deploy.runtime.session import SessionInfo

VERSION = "1"
EXTENSIONS = ("binary_tensor_data",)
HEADER_LENGTH = "Inference-Header-Content-Length"
_OUTPUT_DATATYPE = "FP32"  # every session's outputs are float32
_NUMPY = {"UINT8": np.uint8, "FP16": np.float16, "FP32": np.float32, "FP64": np.float64}
_DATATYPES = {"uint8": "UINT8", "float16": "FP16", "float32": "FP32", "bfloat16": "BF16"}
_LONGEST_SHAPE = 8
# Outputs beside the embedding, where no manifest gives their sizes.
_OUTPUT_SHAPES: dict[str, tuple[int | str, ...]] = {
    "attributes": ("batch", "prototypes"),
    "weights": ("batch", "height", "width"),
    "residual": ("batch",),
    "embedding_bound": ("batch",),
}


@dataclass(frozen=True)
class RequestedOutput:
    """An output by name, and whether its values are wanted as bytes behind the JSON."""

    name: str
    binary: bool


@dataclass(frozen=True, eq=False)
class InferRequest:
    """What a client asks for: the images as it sent them, and the outputs it wants."""

    id: str | None
    images: np.ndarray
    outputs: tuple[RequestedOutput, ...]

    @property
    def output_names(self) -> tuple[str, ...]:
        """Return the outputs to compute, each once."""
        return tuple(dict.fromkeys(output.name for output in self.outputs))


def server_metadata(name: str, version: str) -> dict[str, Any]:
    """Return the reply to `GET /v2`."""
    return {"name": name, "version": version, "extensions": list(EXTENSIONS)}


def model_metadata(name: str, info: SessionInfo) -> dict[str, Any]:
    """Return the reply to `GET /v2/models/<name>`; open sizes are -1."""
    declared = (
        {tensor.name: tensor.shape for tensor in info.manifest.outputs} if info.manifest else {}
    )
    shapes = {**_OUTPUT_SHAPES, **declared, "embedding": ("batch", info.embedding_dim)}
    return {
        "name": name,
        "versions": [VERSION],
        "platform": f"{info.runtime} {info.device}",
        "inputs": [_tensor(info.input)],
        "outputs": [
            {"name": output, "datatype": _OUTPUT_DATATYPE, "shape": _sizes(shapes[output])}
            for output in info.outputs
        ],
    }


def parse_infer(body: bytes, header_length: str | None, info: SessionInfo) -> InferRequest:
    """Read an inference request.

    Args:
        body: JSON, followed by the binary tensors where there are any.
        header_length: the value of the header that says how long the JSON is, if it came.
        info: the model that is asked.

    Raises:
        RequestError: 400, with what was expected and what came.
    """
    document, binary = _split(body, header_length)
    tensors = _list_of_objects(document, "inputs")
    if len(tensors) != 1 or tensors[0].get("name") != info.input.name:
        found = ", ".join(brief(tensor.get("name")) for tensor in tensors) or "none"
        raise _bad(f"expected one input {info.input.name!r}, got {found}")
    images = _array(tensors[0], binary)
    identity = document.get("id")
    if identity is not None and not isinstance(identity, str):
        raise _bad(f"expected id to be a string, got {brief(identity)}")
    return InferRequest(identity, images, _outputs(document, info.outputs))


def write_infer(
    request: InferRequest, name: str, found: Mapping[str, np.ndarray]
) -> tuple[dict[str, str], bytes]:
    """Return the headers and the body of the reply."""
    tensors, blocks = [], []
    for wanted in request.outputs:
        array = np.ascontiguousarray(found[wanted.name], dtype="<f4")
        tensor: dict[str, Any] = {
            "name": wanted.name,
            "datatype": _OUTPUT_DATATYPE,
            "shape": list(array.shape),
        }
        if wanted.binary:
            blocks.append(array.tobytes())
            tensor["parameters"] = {"binary_data_size": array.nbytes}
        else:
            tensor["data"] = array.ravel().tolist()
        tensors.append(tensor)
    document = {"model_name": name, "model_version": VERSION, "outputs": tensors}
    if request.id is not None:
        document["id"] = request.id
    header = json.dumps(document, allow_nan=True).encode()
    if not blocks:
        return {"Content-Type": "application/json"}, header
    headers = {"Content-Type": "application/octet-stream", HEADER_LENGTH: str(len(header))}
    return headers, b"".join((header, *blocks))


def _split(body: bytes, header_length: str | None) -> tuple[dict[str, Any], bytes]:
    length = len(body)
    if header_length is not None:
        if not header_length.isdecimal() or int(header_length) > len(body):
            raise _bad(
                f"expected {HEADER_LENGTH} to be at most the {len(body):,} bytes of the body, "
                f"got {brief(header_length)}"
            )
        length = int(header_length)
    try:
        document = json.loads(body[:length])
    except (ValueError, RecursionError) as error:
        raise _bad(f"expected a JSON document, got something else ({reason_of(error)})") from error
    if not isinstance(document, dict):
        raise _bad(f"expected a JSON object, got {brief(document)}")
    return document, body[length:]


def _list_of_objects(document: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    items = document.get(key, [])
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise _bad(f"expected {key} to be a list of objects, got {brief(items)}")
    return items


def _parameters(holder: Mapping[str, Any]) -> dict[str, Any]:
    found = holder.get("parameters", {})
    if not isinstance(found, dict):
        raise _bad(f"expected parameters to be an object, got {brief(found)}")
    unsupported = [key for key in found if key.startswith("shared_memory")]
    if unsupported or "classification" in found:
        raise _bad(f"{next(iter(unsupported), 'classification')} is not supported by this server")
    return found


def _array(tensor: Mapping[str, Any], binary: bytes) -> np.ndarray:
    datatype, shape = tensor.get("datatype"), _shape(tensor.get("shape"))
    if not isinstance(datatype, str) or datatype not in _NUMPY:
        raise _bad(f"expected a datatype of {', '.join(_NUMPY)}, got {brief(datatype)}")
    size = _parameters(tensor).get("binary_data_size")
    if size is None:
        if binary:
            raise _bad("bytes follow the JSON, but the input has no binary_data_size")
        return _from_json(tensor.get("data"), datatype, shape)
    dtype = np.dtype(_NUMPY[datatype]).newbyteorder("<")
    wanted = math.prod(shape) * dtype.itemsize
    if "data" in tensor:
        raise _bad("the input has both data and binary_data_size; send one of them")
    if not size == wanted == len(binary):
        raise _bad(
            f"{datatype} of shape {shape} takes {wanted:,} bytes, but binary_data_size is "
            f"{brief(size)} and {len(binary):,} bytes follow the JSON"
        )
    return np.frombuffer(binary, dtype).reshape(shape)


def _from_json(data: Any, datatype: str, shape: Sequence[int]) -> np.ndarray:
    if not isinstance(data, list):
        raise _bad(f"expected data to be a list of numbers, got {brief(data)}")
    try:
        values = np.asarray(data)
    except ValueError as error:
        raise _bad("expected data to be numbers, flat or nested evenly") from error
    if values.size != math.prod(shape) or (values.ndim > 1 and list(values.shape) != list(shape)):
        raise _bad(f"expected data for shape {list(shape)}, got {list(values.shape)}")
    whole = datatype == "UINT8"
    if values.size and values.dtype.kind not in ("iu" if whole else "iuf"):
        kind = "whole numbers" if whole else "numbers"
        raise _bad(f"expected data to be {kind}, got {brief(values.flat[0])}")
    if whole and values.size and (values.min() < 0 or values.max() > 255):
        raise _bad(f"expected UINT8 from 0 to 255, got {values.min()} to {values.max()}")
    with np.errstate(over="ignore"):  # what overflows becomes infinity, which the session refuses
        return values.astype(_NUMPY[datatype]).reshape(shape)


def _outputs(document: Mapping[str, Any], known: Sequence[str]) -> tuple[RequestedOutput, ...]:
    binary = _flag(_parameters(document), "binary_data_output", False)
    asked = _list_of_objects(document, "outputs")
    if not asked:
        return tuple(RequestedOutput(name, binary) for name in known)
    return tuple(_requested(asked, known, binary))


def _requested(
    asked: Sequence[Mapping[str, Any]], known: Sequence[str], binary: bool
) -> Iterator[RequestedOutput]:
    for output in asked:
        name = output.get("name")
        if not isinstance(name, str) or name not in known:
            raise _bad(f"the model has no output {brief(name)}, only {', '.join(known)}")
        yield RequestedOutput(name, _flag(_parameters(output), "binary_data", binary))


def _flag(parameters: Mapping[str, Any], key: str, default: bool) -> bool:
    value = parameters.get(key, default)
    if not isinstance(value, bool):
        raise _bad(f"expected {key} to be true or false, got {brief(value)}")
    return value


def _shape(shape: Any) -> list[int]:
    if (
        isinstance(shape, list)
        and 0 < len(shape) <= _LONGEST_SHAPE
        and all(isinstance(size, int) and not isinstance(size, bool) for size in shape)
        and all(size >= 0 for size in shape)
    ):
        return shape
    raise _bad(f"expected shape to be a list of sizes, got {brief(shape)}")


def _tensor(spec: TensorSpec) -> dict[str, Any]:
    return {
        "name": spec.name,
        "datatype": _DATATYPES.get(spec.dtype, spec.dtype.upper()),
        "shape": _sizes(spec.shape),
    }


def _sizes(shape: Sequence[int | str]) -> list[int]:
    """Return a shape with -1 for open sizes; the batch is always open to a client."""
    return [-1, *(size if isinstance(size, int) else -1 for size in shape[1:])]


def _bad(message: str) -> RequestError:
    return RequestError(400, message)

"""Read a KServe v2 inference request: JSON and the binary tensors behind it.

msgspec reads the JSON into typed parts. The tensor's numbers stay text until the shape is known,
and everything else may take `MOST_REST` bytes. So a client cannot make the server allocate much
more memory than the bytes that it sent.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from msgspec import Raw

from gsp_deploy.base.elements import END_ELEMENTS
from gsp_deploy.base.encoding import storage_of
from gsp_deploy.errors import RequestError, brief, reason_of
from gsp_deploy.runtime.session import SessionInfo
from gsp_deploy.serving.bounds import checked_shape, whole_number
from gsp_deploy.serving.json_numbers import array_from_json

HEADER_LENGTH = "Inference-Header-Content-Length"
# Types that a client may send: the models' types that numpy supports, and float64.
_TAKEN = (row for row in reversed(END_ELEMENTS) if row.in_numpy)
DATATYPES = {**{row.kserve: storage_of(row.name) for row in _TAKEN}, "FP64": np.dtype(np.float64)}
MOST_REST = 1 << 16  # bytes of JSON beside the tensor's numbers
_ABSENT = Raw(b"")


@dataclass(frozen=True)
class RequestedOutput:
    """An output by name, and whether its values are wanted as bytes behind the JSON."""

    name: str
    binary: bool


@dataclass(frozen=True, eq=False)
class InferRequest:
    """A client's request: the images that it sent, and the outputs that it wants, each once."""

    id: str | None
    images: np.ndarray
    outputs: tuple[RequestedOutput, ...]

    @property
    def output_names(self) -> tuple[str, ...]:
        """Return the outputs to compute."""
        return tuple(output.name for output in self.outputs)


class _Input(msgspec.Struct):
    name: Raw = _ABSENT
    datatype: Raw = _ABSENT
    shape: Raw = _ABSENT
    data: Raw = _ABSENT
    parameters: Raw = _ABSENT


class _Document(msgspec.Struct):
    inputs: tuple[_Input]
    id: Raw = _ABSENT
    outputs: Raw = _ABSENT
    parameters: Raw = _ABSENT


_DOCUMENT = msgspec.json.Decoder(_Document)


def parse_infer(
    body: bytes, header_length: str | None, info: SessionInfo, most_images: int = 1 << 20
) -> InferRequest:
    """Read an inference request.

    Args:
        body: JSON, followed by the binary tensors if there are any.
        header_length: the value of the header with the length of the JSON; None without it.
        info: the model.
        most_images: images that one request may hold; more are refused before they are read.

    Raises:
        RequestError: 400 if the request is malformed; 413 for too many images, or if
            the JSON beside the numbers is too long.
    """
    length = _header_length(body, header_length)
    document = _document(body[:length], info.input.name)
    tensor = document.inputs[0]
    if length - len(bytes(tensor.data)) > MOST_REST:
        raise RequestError(
            413, f"expected at most {MOST_REST:,} bytes of JSON beside data, got more"
        )
    name = _value(tensor.name)
    if name != info.input.name:
        raise _bad(f"expected one input {info.input.name!r}, got {brief(name)}")
    outputs = _outputs(document, info.outputs)
    identity = _value(document.id)
    if identity is not None and not isinstance(identity, str):
        raise _bad(f"expected id to be a string, got {brief(identity)}")
    return InferRequest(identity, _array(tensor, body[length:], most_images), outputs)


def _header_length(body: bytes, header_length: str | None) -> int:
    if header_length is None:
        return len(body)
    length = whole_number(header_length, len(body))
    if length is None:
        raise _bad(
            f"expected {HEADER_LENGTH} to be at most the {len(body):,} bytes of the body, "
            f"got {brief(header_length)}"
        )
    return length


def _document(text: bytes, input_name: str) -> _Document:
    try:
        return _DOCUMENT.decode(text)
    except msgspec.ValidationError as error:
        raise _bad(
            f"expected a JSON object with one input {input_name!r}: {reason_of(error)}"
        ) from error
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise _bad(f"expected a JSON document, got something else ({reason_of(error)})") from error


def _value(raw: Raw) -> Any:
    """Return a small part of the document as a Python value; None if it is absent."""
    text = bytes(raw)
    if not text:
        return None
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise _bad(f"expected JSON, got {brief(text[:80])} ({reason_of(error)})") from error


def _parameters(found: Any) -> Mapping[str, Any]:
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise _bad(f"expected parameters to be an object, got {brief(found)}")
    unsupported = [key for key in found if key.startswith("shared_memory")]
    if unsupported or "classification" in found:
        named = next(iter(unsupported), "classification")
        raise _bad(f"{brief(named).strip(chr(39))} is not supported by this server")
    return found


def _array(tensor: _Input, binary: bytes, most_images: int) -> np.ndarray:
    datatype, shape = _value(tensor.datatype), checked_shape(_value(tensor.shape))
    if shape[0] > most_images:
        raise RequestError(
            413, f"expected at most {most_images} images in a request, got {shape[0]}; send fewer"
        )
    if not isinstance(datatype, str) or datatype not in DATATYPES:
        raise _bad(f"expected a datatype of {', '.join(DATATYPES)}, got {brief(datatype)}")
    dtype = np.dtype(DATATYPES[datatype])
    size = _parameters(_value(tensor.parameters)).get("binary_data_size")
    if size is None:
        if binary:
            raise _bad("bytes follow the JSON, but the input has no binary_data_size")
        return array_from_json(bytes(tensor.data), shape, dtype)
    if bytes(tensor.data):
        raise _bad("the input has both data and binary_data_size; send one of them")
    wanted = math.prod(shape) * dtype.itemsize
    if type(size) is not int or not size == wanted == len(binary):
        raise _bad(
            f"{datatype} of shape {shape} takes {wanted:,} bytes, but binary_data_size is "
            f"{brief(size)} and {len(binary):,} bytes follow the JSON"
        )
    return np.frombuffer(binary, dtype.newbyteorder("<")).reshape(shape)


def _outputs(document: _Document, known: Sequence[str]) -> tuple[RequestedOutput, ...]:
    binary = _flag(_parameters(_value(document.parameters)), "binary_data_output", False)
    asked = _value(document.outputs)
    if not asked and (asked is None or isinstance(asked, list)):
        return tuple(RequestedOutput(name, binary) for name in known)
    if not isinstance(asked, list) or not all(isinstance(item, dict) for item in asked):
        raise _bad(f"expected outputs to be a list of objects, got {brief(asked)}")
    outputs = tuple(_requested(asked, known, binary))
    names = [output.name for output in outputs]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise _bad(f"the request asks for output {twice} more than once; ask for it once")
    return outputs


def _requested(
    asked: Sequence[Mapping[str, Any]], known: Sequence[str], binary: bool
) -> Iterator[RequestedOutput]:
    if len(asked) > len(known):
        raise _bad(f"the model has {len(known)} outputs, the request asks for {len(asked)}")
    for output in asked:
        name = output.get("name")
        if not isinstance(name, str) or name not in known:
            raise _bad(f"the model has no output {brief(name)}, only {', '.join(known)}")
        parameters = _parameters(output.get("parameters"))
        yield RequestedOutput(name, _flag(parameters, "binary_data", binary))


def _flag(parameters: Mapping[str, Any], key: str, default: bool) -> bool:
    value = parameters.get(key, default)
    if not isinstance(value, bool):
        raise _bad(f"expected {key} to be true or false, got {brief(value)}")
    return value


def _bad(message: str) -> RequestError:
    return RequestError(400, message)

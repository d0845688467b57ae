"""Write `/openapi.json`: the routes and the served model, in OpenAPI 3.1."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from gsp_deploy import __version__
from gsp_deploy.runtime.session import SessionInfo
from gsp_deploy.serving.bounds import LARGEST_TENSOR, MOST_DIMENSIONS
from gsp_deploy.serving.infer_request import DATATYPES, HEADER_LENGTH
from gsp_deploy.serving.routes import BYTES, JSON, ROUTES, Route

TITLE = "gsp-deploy"
Schema = dict[str, Any]

_STRING: Schema = {"type": "string"}
_RETRY: Schema = {"Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer"}}}
_LENGTH = {"description": "Length of the JSON before the tensors, in bytes."}
_RETRY_CODES = (429, 503, 504)


def openapi(name: str, info: SessionInfo, has_keys: bool = False) -> Schema:
    """Return the document.

    Args:
        name: the model's name in URLs.
        info: the model.
        has_keys: requests must carry an API key.
    """
    paths: dict[str, Schema] = {}
    for route in ROUTES:
        operation = _operation(route, name, has_keys)
        paths.setdefault(route.path, {})[route.method.lower()] = operation
    components: Schema = {"schemas": _schemas(info)}
    if has_keys:
        components["securitySchemes"] = {
            "bearer": {"type": "http", "scheme": "bearer"},
            "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
        }
    about = {"title": TITLE, "version": __version__}
    return {"openapi": "3.1.0", "info": about, "paths": paths, "components": components}


def _operation(route: Route, name: str, has_keys: bool) -> Schema:
    operation: Schema = {
        "operationId": f"{route.method} {route.path}",
        "summary": route.summary,
        "responses": _responses(route),
    }
    if parameters := _parameters(route, name):
        operation["parameters"] = parameters
    if route.request:
        content = {kind: {"schema": _ref(schema)} for kind, schema in route.request.items()}
        operation["requestBody"] = {"required": True, "content": content}
    if has_keys and not route.is_open:
        operation["security"] = [{"bearer": []}, {"key": []}]
    return operation


def _parameters(route: Route, name: str) -> list[Schema]:
    parameters: list[Schema] = []
    if "{model}" in route.path:
        schema = {"type": "string", "enum": [name]}
        parameters.append({"name": "model", "in": "path", "required": True, "schema": schema})
    if route.handler == "infer":
        schema = {"type": "string", "pattern": "^[0-9]{1,18}$"}
        parameters.append({"name": HEADER_LENGTH, "in": "header", "schema": schema, **_LENGTH})
    return parameters


def _responses(route: Route) -> Schema:
    replies: dict[int, Schema] = {200: {"description": "OK"}}
    if route.content:
        replies[200]["content"] = {k: {"schema": _ref(s)} for k, s in route.content.items()}
    if route.handler == "infer":
        replies[200]["headers"] = {HEADER_LENGTH: {"schema": {"type": "integer"}, **_LENGTH}}
    for code in route.bare:
        replies[code] = {"description": HTTPStatus(code).phrase}
    for code in (*route.refusals, *(() if route.is_open else (401, 429))):
        replies.setdefault(code, {"description": HTTPStatus(code).phrase})
        replies[code]["content"] = {JSON: {"schema": _ref("Error")}}
        if code in _RETRY_CODES:
            replies[code]["headers"] = _RETRY
    return {str(code): replies[code] for code in sorted(replies)}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _object(required: Schema, optional: Schema | None = None) -> Schema:
    return {
        "type": "object",
        "properties": {**required, **(optional or {})},
        "required": list(required),
    }


def _list(items: Schema, **more: Any) -> Schema:
    return {"type": "array", "items": items, **more}


def _schemas(info: SessionInfo) -> dict[str, Schema]:
    sizes = _list({"type": "integer", "minimum": -1})
    described = _list(_object({"name": _STRING, "datatype": _STRING, "shape": sizes}))
    embedding = _list({"type": "number"}, minItems=info.embedding_dim, maxItems=info.embedding_dim)
    return {
        "Error": _object({"error": {"type": "string", "minLength": 1, "pattern": "^[^\\n]*$"}}),
        "Document": {"type": "object"},
        "Text": _STRING,
        "Bytes": {"type": "string", "contentMediaType": BYTES},
        "ImageForm": _object(
            {"image": {"anyOf": [_list(_ref("Bytes"), minItems=1), _ref("Bytes")]}}
        ),
        "ServerMetadata": _object(
            {"name": _STRING, "version": _STRING, "extensions": _list(_STRING)}
        ),
        "ModelMetadata": _object(
            {
                "name": _STRING,
                "versions": _list(_STRING),
                "platform": _STRING,
                "inputs": described,
                "outputs": described,
            }
        ),
        "Embeddings": _object(
            {
                "model": _STRING,
                "precision": _STRING,
                "embedding_dim": {"type": "integer", "const": info.embedding_dim},
                "embeddings": _list(
                    _object(
                        {"file": _STRING, "embedding": embedding},
                        {"residual": {"type": ["number", "null"]}},
                    )
                ),
            }
        ),
        "InferRequest": _infer_request(info),
        "InferReply": _infer_reply(info),
    }


def _infer_request(info: SessionInfo) -> Schema:
    size = {"type": "integer", "minimum": 0, "maximum": LARGEST_TENSOR}
    tensor = _object(
        {
            "name": {"type": "string", "const": info.input.name},
            "datatype": {"type": "string", "enum": list(DATATYPES)},
            "shape": _list(size, minItems=1, maxItems=MOST_DIMENSIONS),
        },
        {
            "data": {
                "type": "array",
                "description": "The tensor's numbers, flat or nested as the shape is.",
            },
            "parameters": _object({}, {"binary_data_size": {"type": ["integer", "null"]}}),
        },
    )
    flag = {"type": "boolean"}
    wanted = _object(
        {"name": {"type": "string", "enum": list(info.outputs)}},
        {"parameters": {"anyOf": [_object({}, {"binary_data": flag}), {"type": "null"}]}},
    )
    most = len(info.outputs)
    return _object(
        {"inputs": {**_list(tensor, minItems=1, maxItems=1)}},
        {
            "id": {"type": ["string", "null"]},
            "outputs": {"anyOf": [_list(wanted, maxItems=most), {"type": "null"}]},
            "parameters": {"anyOf": [_object({}, {"binary_data_output": flag}), {"type": "null"}]},
        },
    )


def _infer_reply(info: SessionInfo) -> Schema:
    tensor = _object(
        {
            "name": {"type": "string", "enum": list(info.outputs)},
            "datatype": {"type": "string", "const": "FP32"},
            "shape": _list({"type": "integer", "minimum": 0}),
        },
        {"data": _list({"type": "number"})},
    )
    return _object(
        {"model_name": _STRING, "model_version": _STRING, "outputs": _list(tensor)},
        {"id": _STRING},
    )

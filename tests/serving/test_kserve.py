"""The protocol alone: what is read, what is refused, and that hostile bytes get a 400."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest

from gsp_deploy.artifact import TensorSpec
from gsp_deploy.errors import RequestError
from gsp_deploy.runtime.session import SessionInfo
from gsp_deploy.serving.kserve import HEADER_LENGTH, model_metadata, parse_infer, write_infer

IMAGES = np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2)
INFO = SessionInfo(
    Path("m.onnx"),
    "fake",
    "cpu",
    "fp32",
    TensorSpec("images", "float32", ("batch", 3, "height", "width")),
    ("embedding", "weights"),
    4,
    None,
)


def document(**changes: object) -> dict:
    tensor = {"name": "images", "shape": [2, 3, 2, 2], "datatype": "FP32"}
    return {"inputs": [{**tensor, "data": IMAGES.ravel().tolist(), **changes}]}


def parse(asked: object, binary: bytes = b"", **settings: object):
    header = json.dumps(asked).encode()
    length = str(len(header)) if binary or settings.get("length") else None
    return parse_infer(header + binary, length, INFO)


@pytest.mark.parametrize("data", [IMAGES.tolist(), IMAGES.ravel().tolist()], ids=["nested", "flat"])
def test_json_tensors(data: list) -> None:
    asked = parse(document(data=data))
    assert asked.images.dtype == np.float32
    np.testing.assert_array_equal(asked.images, IMAGES)
    assert [(o.name, o.binary) for o in asked.outputs] == [("embedding", False), ("weights", False)]


@pytest.mark.parametrize(
    ("datatype", "dtype"),
    [("FP32", np.float32), ("FP16", np.float16), ("FP64", np.float64), ("UINT8", np.uint8)],
)
def test_binary_tensors(datatype: str, dtype: type) -> None:
    raw = IMAGES.astype(dtype).tobytes()
    asked = document(datatype=datatype, parameters={"binary_data_size": len(raw)})
    del asked["inputs"][0]["data"]
    asked["outputs"] = [{"name": "embedding", "parameters": {"binary_data": True}}]
    found = parse(asked, raw)
    np.testing.assert_array_equal(found.images, IMAGES)
    assert [(o.name, o.binary) for o in found.outputs] == [("embedding", True)]


def test_a_reply_with_bytes_says_how_long_its_json_is() -> None:
    asked = parse({**document(), "parameters": {"binary_data_output": True}})
    values = {"embedding": IMAGES[:, 0, 0], "weights": IMAGES[:, 0]}
    headers, body = write_infer(asked, "m", values)
    length = int(headers[HEADER_LENGTH])
    told = json.loads(body[:length])["outputs"]
    assert [t["parameters"]["binary_data_size"] for t in told] == [16, 32]
    found = np.frombuffer(body[length:], "<f4")
    np.testing.assert_array_equal(found, np.concatenate([v.ravel() for v in values.values()]))


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        ([], "JSON object"),
        ({}, "one input 'images': Object missing required field `inputs`"),
        ({"inputs": {}}, "one input 'images': Expected `array`"),
        ({"inputs": [3]}, "one input 'images': Expected `object`"),
        (document(name="pixels"), "got 'pixels'"),
        ({"inputs": document()["inputs"] * 2}, "one input"),
        (document(datatype="BYTES"), "datatype of UINT8"),
        (document(datatype=["FP32"]), "datatype of UINT8"),
        (document(shape="2"), "shape to be a list of sizes"),
        (document(shape=[-1, 3, 2, 2]), "shape to be a list of sizes"),
        (document(shape=[True]), "shape to be a list of sizes"),
        (document(shape=[1] * 99), "shape to be a list of sizes"),
        (document(shape=[10**30, 3, 2, 2]), "shape to be a list of sizes"),
        (document(shape=[2, 3, 2, 3]), "expected data for shape"),
        (document(data=IMAGES.transpose(0, 2, 3, 1).tolist()), "expected data for shape"),
        (document(data=[[1], [1, 2]]), "expected data for shape"),
        (document(data=[[IMAGES.ravel().tolist()]]), "flat or nested evenly"),
        (document(data=["1"] * 24), "to be numbers"),
        (document(data=[True] * 24), "to be numbers"),
        (document(data=[None] * 24), "to be numbers"),
        (document(data=[10**400] * 24), "to be numbers"),
        (document(data=None), "list of numbers"),
        (document(datatype="UINT8", data=[1.5] * 24), "whole numbers"),
        (document(datatype="UINT8", data=[256] * 24), "UINT8 from 0 to 255"),
        (document(datatype="UINT8", data=[-1] * 24), "UINT8 from 0 to 255"),
        (document(parameters={"binary_data_size": 96}), "both data and binary_data_size"),
        (document(parameters={"shared_memory_region": "r"}), "shared_memory_region is not"),
        (document(parameters=[]), "parameters to be an object"),
        ({**document(), "id": 3}, "id to be a string"),
        ({**document(), "outputs": [{"name": "logits"}]}, "no output 'logits', only embedding"),
        ({**document(), "outputs": [{"name": ["x"]}]}, "no output"),
        (
            {**document(), "outputs": [{"name": "embedding", "parameters": {"classification": 3}}]},
            "classification is not",
        ),
        (
            {**document(), "parameters": {"binary_data_output": "yes"}},
            "binary_data_output to be true or false",
        ),
    ],
)
def test_requests_of_other_forms_are_refused(asked, named) -> None:
    with pytest.raises(RequestError, match=named) as caught:
        parse(asked)
    assert caught.value.status == 400


@pytest.mark.parametrize(
    ("size", "sent", "named"),
    [(96, 95, "takes 96 bytes"), (95, 95, "takes 96 bytes"), ("96", 96, "takes 96 bytes")],
)
def test_binary_sizes_must_agree(size, sent, named) -> None:
    asked = document(parameters={"binary_data_size": size})
    del asked["inputs"][0]["data"]
    with pytest.raises(RequestError, match=named):
        parse(asked, bytes(sent))


@pytest.mark.parametrize("length", ["-1", "x", "1e3", "999999"])
def test_a_header_length_that_cannot_be(length: str) -> None:
    with pytest.raises(RequestError, match=HEADER_LENGTH):
        parse_infer(b"{}", length, INFO)


def test_damaged_requests_are_read_or_refused() -> None:
    """Bytes changed, cut and repeated; and JSON nested beyond any parser's depth."""
    raw = json.dumps(document()).encode()
    draw, refusals = random.Random(0), []
    samples = [b"[" * 100_000, b'{"inputs":' * 50_000, b"\xff\xfe", b""]
    for _ in range(400):
        damaged = bytearray(raw)
        place = draw.randrange(len(raw))
        damaged[place : place + draw.randrange(4)] = draw.randbytes(draw.randrange(3))
        samples.append(bytes(damaged))
    for sample in samples:
        length = draw.choice([None, str(draw.randrange(len(sample) + 1))])
        try:
            parse_infer(sample, length, INFO)
        except RequestError as error:
            refusals.append(error)
    assert len(refusals) > 200
    assert {error.status for error in refusals} == {400}
    assert not any("\n" in str(error) for error in refusals)


def test_metadata_without_a_manifest_leaves_sizes_open() -> None:
    told = model_metadata("m", INFO)
    assert told["inputs"][0]["shape"] == [-1, 3, -1, -1]
    assert [(t["name"], t["shape"]) for t in told["outputs"]] == [
        ("embedding", [-1, 4]),
        ("weights", [-1, -1, -1]),
    ]

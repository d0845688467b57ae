"""Triton's HTTP client talks to the server of gsp-deploy: the protocol as other clients use it."""

from __future__ import annotations

from urllib.parse import urlsplit

import numpy as np
import pytest
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput
from tritonclient.utils import InferenceServerException

from gsp_deploy import open_session

from .servers import running_server


@pytest.fixture(scope="module")
def session(tiny_export: str):
    with open_session(tiny_export, threads=1) as opened:
        yield opened


@pytest.fixture(scope="module")
def client(session):
    with running_server(session) as running:
        yield InferenceServerClient(urlsplit(running.url).netloc)


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((3, 3, 32, 32)).astype(np.float32)


def infer_input(array: np.ndarray, binary: bool = True) -> InferInput:
    datatype = {"float32": "FP32", "uint8": "UINT8", "float16": "FP16"}[str(array.dtype)]
    tensor = InferInput("images", list(array.shape), datatype)
    tensor.set_data_from_numpy(array, binary_data=binary)
    return tensor


def test_server_and_model_are_described(client: InferenceServerClient) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("m")
    assert client.get_model_metadata("m")["inputs"][0]["shape"] == [-1, 3, 32, 32]


@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False, None])
def test_inference_equals_the_session(client, session, images, binary_in, binary_out) -> None:
    outputs = None
    if binary_out is not None:
        outputs = [InferRequestedOutput("embedding", binary_data=binary_out)]
    found = client.infer("m", [infer_input(images, binary_in)], outputs=outputs, request_id="7")
    assert found.get_response()["id"] == "7"
    np.testing.assert_allclose(found.as_numpy("embedding"), session.embed(images), atol=1e-6)


def test_pixels_are_normalised_as_the_session_does(client, session) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    found = client.infer("m", [infer_input(pixels)]).as_numpy("embedding")
    np.testing.assert_allclose(found, session.embed(pixels), atol=1e-6)


def test_errors_reach_the_client_as_one_line(client, images) -> None:
    with pytest.raises(InferenceServerException, match="expected images of shape"):
        client.infer("m", [infer_input(images[:, :, :5])])
    with pytest.raises(InferenceServerException, match="no model 'other'"):
        client.infer("other", [infer_input(images)])
    with pytest.raises(InferenceServerException, match="not compressed"):
        client.infer("m", [infer_input(images)], request_compression_algorithm="gzip")

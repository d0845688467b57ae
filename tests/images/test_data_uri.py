"""A picture in a data address decodes to the same picture."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from gsp_deploy.images.data_uri import data_uri


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P"])
def test_a_picture_comes_back(mode: str) -> None:
    picture = Image.new("RGB", (24, 16), (204, 204, 204)).convert(mode)
    kind, _, text = data_uri(picture).partition(",")
    assert kind == "data:image/jpeg;base64"
    found = Image.open(io.BytesIO(base64.b64decode(text)))
    assert found.size == (24, 16)
    assert np.abs(np.asarray(found).astype(int) - 204).max() <= 2

"""Bad arrays to every session that runs without a GPU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gsp_deploy import open_session
from gsp_deploy.errors import UsageError

BAD = {
    "another size": np.zeros((2, 31, 32, 3), np.uint8),
    "channels first": np.zeros((2, 3, 32, 32), np.uint8),
    "one image without a batch": np.zeros((32, 32, 3), np.uint8),
    "greyscale": np.zeros((2, 32, 32), np.uint8),
    "four channels": np.zeros((2, 32, 32, 4), np.uint8),
    "16-bit": np.zeros((2, 32, 32, 3), np.uint16),
    "words": np.full((2, 32, 32, 3), "a"),
    "objects": np.full((2, 32, 32, 3), None, dtype=object),
    "complex": np.zeros((2, 3, 32, 32), np.complex64),
    "NaN": np.full((2, 3, 32, 32), np.nan, np.float32),
    "one infinity": np.where(np.arange(6144) == 77, np.inf, 0).reshape(2, 3, 32, 32),
    "beyond float32": np.full((2, 3, 32, 32), 1e300),
    "a number": np.float32(3),
}


@pytest.mark.parametrize("model", ["model.onnx", "model.safetensors"])
def test_bad_arrays(model: str, workshop: Path, tried) -> None:
    with open_session(workshop / model, threads=1) as session:
        for what, images in BAD.items():
            with pytest.raises(UsageError) as refused:
                session.embed(images)
            assert "\n" not in str(refused.value)
            tried(f"Arrays to a session of {model}", what, str(refused.value))
        assert np.isfinite(session.embed(np.zeros((1, 32, 32, 3), np.uint8))).all()

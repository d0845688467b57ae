"""Sessions that need no model file, and one small model exported in two precisions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from gsp_deploy.artifact import TensorSpec
from gsp_deploy.config import PreprocessingSpec
from gsp_deploy.runtime.session import EmbeddingSession, SessionInfo, SessionOptions

SIZE = 6
SPEC = PreprocessingSpec(SIZE, SIZE)
Compute = Callable[[np.ndarray], Mapping[str, np.ndarray]]


class FakeSession(EmbeddingSession):
    """Computes its outputs from a batch of uint8 images by the function it is given."""

    def __init__(
        self, compute: Compute, batch: int | None, precision: str, spec: PreprocessingSpec | None
    ) -> None:
        outputs = tuple(compute(np.zeros((1, SIZE, SIZE, 3), np.uint8)))
        info = SessionInfo(
            path=Path("fake.onnx"),
            runtime="fake 1.0",
            device="none",
            precision=precision,
            input=TensorSpec("images", "uint8", (batch or "batch", SIZE, SIZE, 3)),
            outputs=outputs,
            embedding_dim=4,
            preprocessing=spec,
        )
        super().__init__(info, SessionOptions())
        self._compute = compute

    def infer(self, inputs: np.ndarray, outputs: Sequence[str]) -> Mapping[str, np.ndarray]:
        found = self._compute(inputs)
        return {name: found[name].astype(np.float32) for name in outputs}

    def close(self) -> None:
        pass


@pytest.fixture
def fake() -> Callable[..., FakeSession]:
    def make(
        compute: Compute,
        batch: int | None = None,
        precision: str = "fp32",
        spec: PreprocessingSpec | None = SPEC,
    ) -> FakeSession:
        return FakeSession(compute, batch, precision, spec)

    return make


@pytest.fixture
def pixels() -> np.ndarray:
    """Twenty random images, uint8 `(20, 6, 6, 3)`."""
    return np.random.default_rng(0).integers(0, 256, (20, SIZE, SIZE, 3), dtype=np.uint8)


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory, tiny_checkpoint: Path) -> Path:
    """A folder with `model.safetensors` and, of the same model, `fp32.onnx` and `fp16.onnx`."""
    from torch import nn

    from gsp_deploy.checkpoint import load_checkpoint, save_checkpoint
    from gsp_deploy.export import ExportOptions, export_onnx

    folder = tmp_path_factory.mktemp("exported")
    model = load_checkpoint(tiny_checkpoint)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):  # some start at 0, which would hide their branch
            nn.init.constant_(module.weight, 0.8)
    save_checkpoint(model, folder / "model.safetensors")
    for precision in ("fp32", "fp16"):
        options = ExportOptions(precision=precision, outputs=("attributes", "weights"))
        export_onnx(model, folder / f"{precision}.onnx", options)
    return folder


@pytest.fixture(scope="session")
def photographs() -> np.ndarray:
    """Sixteen crops of photographs, uint8 `(16, 32, 32, 3)`."""
    from skimage.data import astronaut, chelsea

    crops = [
        picture[top : top + 128 : 4, left : left + 128 : 4]
        for picture in (astronaut(), chelsea())
        for top in (0, 128)
        for left in (0, 64, 192, 256)
    ]
    return np.stack(crops)

"""Run a network before and after its adoption, and find out which of its open sizes are open."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from gsp_deploy.config import PreprocessingSpec
from gsp_deploy.errors import GspDeployError, flattened
from gsp_deploy.export.adoption.ends import EMBEDDING, ImageInput
from gsp_deploy.export.trial_run import TrialGraph, running
from gsp_deploy.images.normalisation import normalise

OTHER_BATCH = 3
# Largest difference from the file's own answers, relative to the largest of them, by precision.
_CLOSE = {"fp32": 1e-4}
_CLOSE_LOW = 2e-2
# Largest change of an answer with the other images of a batch, relative to its largest entry. A
# network that quantises with each batch's own range changes by less.
_MIXED = 0.1


def noise(batch: int, height: int, width: int) -> np.ndarray:
    """Return seeded random pixels, uint8 `(B, H, W, 3)`."""
    return np.random.default_rng(0).integers(0, 256, (batch, height, width, 3), dtype=np.uint8)


def own_answer(network: ir.Model, source: ImageInput, spec: PreprocessingSpec) -> np.ndarray:
    """Return what the file itself gives for one batch of random pixels of the size of `spec`.

    Raises:
        GspDeployError: ONNX Runtime cannot run it at that size.
    """
    pixels = noise(source.batch or 1, spec.height, spec.width)
    name = str(network.graph.outputs[0].name)
    try:
        with running(network) as graph:
            answer = graph.run(source.feed(pixels, spec), (name,))[name]
    except GspDeployError as error:
        size = f"{spec.height}x{spec.width}"
        raise GspDeployError(
            f"the network does not run on images of {size}: {flattened(error, 200)}; does --size "
            "name the size that it was trained at?"
        ) from error
    return np.asarray(answer)


class Rehearsal:
    """The adopted network, open to be run at several sizes.

    Attributes:
        notes: what was found to be other than the file says, one line each.
    """

    def __init__(self, graph: TrialGraph, spec: PreprocessingSpec) -> None:
        self._graph, self._spec = graph, spec
        self.notes: list[str] = []

    def compare(self, expected: np.ndarray, normalize: bool, precision: str) -> None:
        """Raise `GspDeployError` unless the adopted network gives the file's own answer."""
        wanted = expected.reshape(len(expected), -1).astype(np.float64)
        if normalize:
            wanted = wanted / np.maximum(np.linalg.norm(wanted, axis=1, keepdims=True), 1e-12)
        found = self._run(len(wanted), self._spec.height, self._spec.width).astype(np.float64)
        largest = float(np.abs(wanted).max(initial=0))
        if not np.isfinite(largest):
            raise GspDeployError(
                "the network gives NaN or infinity for random pixels; are --mean and --std right?"
            )
        allowed = _CLOSE.get(precision, _CLOSE_LOW) * max(largest, 1e-6)
        if found.shape != wanted.shape or float(np.abs(found - wanted).max(initial=0)) > allowed:
            raise GspDeployError(
                "the adopted network does not give the file's own answers; please open an issue "
                "with the file"
            )

    def settle(self, source: ImageInput) -> tuple[int | str, int | str, int | str]:
        """Return batch, height and width for the manifest: open only where another one runs."""
        spec = self._spec
        batch: int | str = source.batch or "batch"
        if source.batch is None and not self._answers(OTHER_BATCH, spec.height, spec.width):
            batch = 1
            self.notes.append("its batch size is open in the file, but only 1 runs; it is fixed")
        elif source.batch is None and self._mixes_images():
            batch = 1
            self.notes.append(
                "its answer for an image changes with the other images of a batch; the batch size "
                "is fixed to 1"
            )
        sizes: list[int | str] = [source.height or "height", source.width or "width"]
        if None in (source.height, source.width):
            larger = (
                (source.height or 2 * spec.height),
                (source.width or (spec.width if source.height is None else 2 * spec.width)),
            )
            if not self._answers(source.batch or 1, *larger):
                sizes = [spec.height, spec.width]
                self.notes.append(
                    f"its image size is open in the file, but {larger[0]}x{larger[1]} does not "
                    f"run; it is fixed to {spec.height}x{spec.width}"
                )
        return batch, sizes[0], sizes[1]

    def _answers(self, batch: int, height: int, width: int) -> bool:
        try:
            return len(self._run(batch, height, width)) == batch
        except GspDeployError:
            return False

    def _mixes_images(self) -> bool:
        """Whether the answer for an image depends much on the other images of its batch."""
        spec = self._spec
        alone, among = (self._run(n, spec.height, spec.width)[0] for n in (1, OTHER_BATCH))
        change, largest = (float(np.abs(x).max(initial=0)) for x in (among - alone, alone))
        return change > _MIXED * largest

    def _run(self, batch: int, height: int, width: int) -> np.ndarray:
        pixels = noise(batch, height, width)
        takes_pixels = self._graph.input.dtype == "uint8"
        images = pixels if takes_pixels else normalise(pixels, self._spec)
        return np.asarray(self._graph.run(images, (EMBEDDING,))[EMBEDDING])

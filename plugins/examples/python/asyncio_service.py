"""Inside an asyncio program: the event loop stays free, and requests share batches.

    python asyncio_service.py model.onnx --requests 50

`asyncio.to_thread(session.embed, images)` alone keeps the loop free. Here single images also wait a
few milliseconds for others, since a batch of eight costs less than eight batches. For a whole
server with limits and metrics: `gsp-deploy serve`.
"""

from __future__ import annotations

import argparse
import asyncio

import numpy as np

from gsp_deploy.runtime import EmbeddingSession, open_session

Waiting = tuple[np.ndarray, "asyncio.Future[np.ndarray]"]


class Embedder:
    """Gathers images from any number of tasks into batches for one session."""

    def __init__(self, session: EmbeddingSession, max_batch: int = 8, window: float = 0.005):
        self._session, self._max_batch, self._window = session, max_batch, window
        self._queue: asyncio.Queue[Waiting] = asyncio.Queue(maxsize=64)  # back-pressure
        self.batches = 0

    async def embed(self, image: np.ndarray) -> np.ndarray:
        """Return the embedding `(D,)` of one image, uint8 `(H, W, 3)`."""
        answer: asyncio.Future[np.ndarray] = asyncio.get_running_loop().create_future()
        await self._queue.put((image, answer))
        return await answer

    async def run(self) -> None:
        """Serve until cancelled."""
        while True:
            batch = [await self._queue.get()]
            await asyncio.sleep(self._window)
            while len(batch) < self._max_batch and not self._queue.empty():
                batch.append(self._queue.get_nowait())
            images = np.stack([image for image, _ in batch])
            found = await asyncio.to_thread(self._session.embed, images)
            self.batches += 1
            for (_, answer), embedding in zip(batch, found, strict=True):
                if not answer.done():  # whoever asked may have been cancelled
                    answer.set_result(embedding)


async def serve(session: EmbeddingSession, requests: int) -> None:
    """Send requests at once and make sure that each got its own embedding."""
    spec = session.info.preprocessing
    if spec is None:
        raise SystemExit(f"{session.info.path} does not say how images are prepared")
    shape = (requests, spec.height, spec.width, 3)
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    embedder = Embedder(session)
    worker = asyncio.create_task(embedder.run())
    found = await asyncio.gather(*(embedder.embed(image) for image in images))
    worker.cancel()
    worst = float(np.abs(np.stack(found) - session.embed(images)).max())
    print(f"{requests} requests in {embedder.batches} batches, greatest difference {worst:.1e}")


def main() -> None:
    """Open the model and serve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--requests", type=int, default=20)
    asked = parser.parse_args()
    with open_session(asked.model) as session:
        asyncio.run(serve(session, asked.requests))


if __name__ == "__main__":
    main()

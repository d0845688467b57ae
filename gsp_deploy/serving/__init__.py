"""Serving a model over HTTP: KServe v2 inference, image files, dynamic batching, limits.

    if __name__ == "__main__":  # decoders are processes, which import this script again
        with open_session("model.onnx", max_batch=32) as session:
            settings = ServingSettings()
            service = EmbeddingService(session, "model", settings)
            serve(service, listen("127.0.0.1", 8000), settings)

Needs the extra `serve`: FastAPI, uvicorn, msgspec, prometheus-client, python-multipart, Pillow.
"""

from gsp_deploy.serving.app import EmbeddingService
from gsp_deploy.serving.server import EmbeddingServer, address_of, listen, serve
from gsp_deploy.serving.settings import ServingSettings

__all__ = [
    "EmbeddingServer",
    "EmbeddingService",
    "ServingSettings",
    "address_of",
    "listen",
    "serve",
]

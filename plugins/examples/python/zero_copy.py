"""torch tensors in and out, without a copy, on the CPU or the GPU.

    python zero_copy.py model.onnx                    # ONNX Runtime, on the CPU
    python zero_copy.py model.onnx --device cuda      # ONNX Runtime's CUDA provider
    python zero_copy.py model.engine --device cuda    # TensorRT

CuPy goes the same way: `cupy.from_dlpack(embeddings)`. The images are normalised already, or uint8
pixels where the export has pre-processing in its graph (`--include-preprocessing`).
"""

from __future__ import annotations

import argparse

import torch

from gsp_deploy.runtime import EmbeddingSession, open_session

BATCH = 4


def main() -> None:
    """Embed a tensor where it lies and compare with the way through numpy."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--device", default="cpu")
    asked = parser.parse_args()

    with open_session(asked.model, asked.device) as session:
        images = make_images(session).to(asked.device)
        embeddings = embed(session, images)
        expected = torch.from_numpy(session.embed(images.cpu().numpy()))
        worst = float((embeddings.cpu().float() - expected).abs().max())
        print(f"{tuple(embeddings.shape)} on {embeddings.device}, greatest difference {worst:.1e}")


def embed(session: EmbeddingSession, images: torch.Tensor) -> torch.Tensor:
    """Return the embeddings on the images' device."""
    if "embed_dlpack" in session.capabilities:
        if images.is_cuda:
            torch.cuda.current_stream().synchronize()  # ONNX Runtime has a stream of its own
        embeddings: torch.Tensor = torch.from_dlpack(session.embed_dlpack(images))
        return embeddings
    if "embed_device" not in session.capabilities:
        raise SystemExit("a checkpoint runs in torch itself; give this an export or an engine")
    stream = torch.cuda.current_stream().cuda_stream  # ordered on it: nothing waits on the host
    out = torch.empty(len(images), session.info.embedding_dim, device=images.device)
    session.embed_device(images, out=out, stream=stream)
    return out


def make_images(session: EmbeddingSession) -> torch.Tensor:
    """Return a batch of noise of the model's own input type and shape."""
    source = session.info.input
    sizes = [size if isinstance(size, int) else 224 for size in source.shape[1:]]
    if source.dtype == "uint8":
        return torch.randint(0, 256, (BATCH, *sizes), dtype=torch.uint8)
    return torch.randn(BATCH, *sizes, dtype=getattr(torch, source.dtype))


if __name__ == "__main__":
    main()

"""Write a model repository for Triton Inference Server from an ONNX file or a TensorRT engine."""

from gsp_deploy.triton.configuration import TritonOptions
from gsp_deploy.triton.repository import (
    GoldenVectors,
    TritonRepository,
    write_triton_repository,
)

__all__ = ["GoldenVectors", "TritonOptions", "TritonRepository", "write_triton_repository"]

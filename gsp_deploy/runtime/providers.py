"""Choose and configure an execution provider of ONNX Runtime."""

from __future__ import annotations

import os
from pathlib import Path

import onnxruntime

from gsp_deploy.errors import MissingCapabilityError
from gsp_deploy.runtime.session import SessionOptions

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
TENSORRT, TENSORRT_RTX = "TensorrtExecutionProvider", "NvTensorRTRTXExecutionProvider"
_IMPLIED = {"cpu": CPU, "cuda": CUDA}
_ON_GPU = (CUDA, TENSORRT, TENSORRT_RTX)


def provider_name(options: SessionOptions) -> str:
    """Return the provider's full name, after checking that this ONNX Runtime has it.

    Raises:
        MissingCapabilityError: this ONNX Runtime lacks the provider.
    """
    asked = options.provider or options.device.partition(":")[0]
    available = onnxruntime.get_available_providers()
    full = {name.removesuffix("ExecutionProvider").lower(): name for name in available}
    provider = asked if asked in available else full.get(asked.lower(), _IMPLIED.get(asked, asked))
    if provider not in available:
        hint = "; pip install onnxruntime-gpu" if provider == CUDA else ""
        raise MissingCapabilityError(
            f"this ONNX Runtime has no {provider}, only {', '.join(available)}{hint}"
        )
    return provider


def provider_chain(provider: str, options: SessionOptions) -> list[tuple[str, dict[str, str]]]:
    """Return the providers with their settings; CUDA runs what TensorRT does not support."""
    chosen = {**_defaults(provider, options), **options.provider_options}
    chain = [(provider, chosen)]
    if provider == TENSORRT and CUDA in onnxruntime.get_available_providers():
        chain.append((CUDA, _defaults(CUDA, options)))
    return chain


def _defaults(provider: str, options: SessionOptions) -> dict[str, str]:
    settings = _device(options) if provider in _ON_GPU else {}
    if provider == CUDA:
        # By default it rounds the operands of float32 products to 10 bits (TF32): that is not fp32.
        settings["use_tf32"] = "0"
    if provider == TENSORRT:
        # A build takes minutes; ONNX Runtime itself checks whether a cached engine still fits.
        folder = str(_cache_folder())
        settings |= {
            "trt_engine_cache_enable": "1",
            "trt_engine_cache_path": folder,
            "trt_timing_cache_enable": "1",
            "trt_timing_cache_path": folder,
        }
    return settings


def _device(options: SessionOptions) -> dict[str, str]:
    index = options.device.partition(":")[2]
    return {"device_id": index} if index else {}


def _cache_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "gsp-deploy" / "tensorrt-provider"

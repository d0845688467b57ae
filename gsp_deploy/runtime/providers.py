"""Choose and configure an execution provider of ONNX Runtime."""

from __future__ import annotations

import json
import os
from pathlib import Path

import onnxruntime

from gsp_deploy.base.platforms import package_line
from gsp_deploy.errors import MissingCapabilityError
from gsp_deploy.runtime.ep_libraries import PIP_NAMES, find_provider, only_provider
from gsp_deploy.runtime.session import SessionOptions

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
TENSORRT, TENSORRT_RTX = "TensorrtExecutionProvider", "NvTensorRTRTXExecutionProvider"
OPENVINO = "OpenVINOExecutionProvider"
_IMPLIED = {"cpu": CPU, "cuda": CUDA}
# Providers whose arrays are in CUDA's memory.
ON_GPU = (CUDA, TENSORRT, TENSORRT_RTX)


def provider_name(options: SessionOptions) -> str:
    """Return the provider's full name; load the library that offers it, if one does.

    Raises:
        MissingCapabilityError: this ONNX Runtime lacks the provider, or a library of it cannot be
            loaded.
        UsageError: the libraries offer several, and none was chosen.
    """
    if options.provider is None and options.ep_libraries:
        return only_provider(options.ep_libraries)
    asked = options.provider or options.device.partition(":")[0]
    available = onnxruntime.get_available_providers()
    full = {name.removesuffix("ExecutionProvider").lower(): name for name in available}
    provider = asked if asked in available else full.get(asked.lower(), _IMPLIED.get(asked, asked))
    if provider in available:
        return provider
    found = find_provider(provider, options.ep_libraries)
    if found is None:
        raise MissingCapabilityError(
            f"this ONNX Runtime has no {provider}, only {', '.join(available)}{_hint(provider)}"
        )
    return found


def _hint(provider: str) -> str:
    """Return what brings a provider, after a semicolon, or nothing."""
    if provider == CUDA:
        return f"; {package_line('onnxruntime-gpu')}"
    for name, package in PIP_NAMES.items():
        if provider.lower() in (name.lower(), name.removesuffix("ExecutionProvider").lower()):
            return f"; {package_line(package)}"
    return ""


def provider_settings(provider: str, options: SessionOptions) -> dict[str, str]:
    """Return a provider's settings; those of the caller come last."""
    return {**_defaults(provider, options), **options.provider_options}


def provider_chain(provider: str, options: SessionOptions) -> list[tuple[str, dict[str, str]]]:
    """Return the providers with their settings; CUDA runs what TensorRT does not support."""
    chain = [(provider, provider_settings(provider, options))]
    if provider == TENSORRT and CUDA in onnxruntime.get_available_providers():
        chain.append((CUDA, _defaults(CUDA, options)))
    return chain


def _defaults(provider: str, options: SessionOptions) -> dict[str, str]:
    settings = _device(options) if provider in ON_GPU else {}
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
    if provider == OPENVINO:
        settings["load_config"] = json.dumps({"CPU": _openvino(options)})
    return settings


def _openvino(options: SessionOptions) -> dict[str, str]:
    """Return OpenVINO's own settings for a CPU; by default it may compute float32 in bfloat16."""
    threads = {} if options.threads is None else {"INFERENCE_NUM_THREADS": str(options.threads)}
    return {"INFERENCE_PRECISION_HINT": "f32", **threads}


def arithmetic(provider: str, options: SessionOptions) -> str:
    """Return what a provider may do to float32 values, in words; empty if it does what it says.

    `providers.py` pins what a provider lets it pin. What the caller's own settings change is not
    known here.
    """
    given = set(options.provider_options)
    if provider == CUDA and "use_tf32" not in given:
        return "TF32 off"
    if provider == OPENVINO and "load_config" not in given:
        return "float32 pinned"
    if provider == TENSORRT:
        is_off = os.environ.get("NVIDIA_TF32_OVERRIDE") == "0"
        return "TF32 off (NVIDIA_TF32_OVERRIDE)" if is_off else "TF32 on, TensorRT's default"
    return "" if provider == CPU else "precision by the provider's default"


def threads_reach(provider: str) -> bool:
    """Whether `threads` sets the threads that this provider computes with."""
    return provider in (CPU, OPENVINO)


def _device(options: SessionOptions) -> dict[str, str]:
    index = options.device.partition(":")[2]
    return {"device_id": index} if index else {}


def _cache_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "gsp-deploy" / "tensorrt-provider"

"""What each command needs, and how to install what is missing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gsp_deploy.base.environment import can_import
from gsp_deploy.base.platforms import (
    install_line_on_a_jetson,
    is_jetson,
    package_line_on_a_jetson,
)

TRAIN = "pip install 'gsp-deploy[train]'"
CPU = "pip install 'gsp-deploy[cpu]'"
OPENVINO = "pip install 'gsp-deploy[openvino]'"
GPU = "pip install 'gsp-deploy[gpu]'"
RTX = "pip install 'gsp-deploy[rtx]'"
LEAN = "pip install 'gsp-deploy[lean]'"
DRIVER = "install NVIDIA's driver: apt install nvidia-driver"
NVML = "pip install nvidia-ml-py"
TENSORRT = "pip install tensorrt"


@dataclass(frozen=True)
class Need:
    """One thing that a command needs.

    Attributes:
        name: what is needed, in words.
        modules: alternative Python modules, at least one of them must be installed; empty if the
            need is not a package.
        remedy: how to install it: a shell command, or an instruction.
    """

    name: str
    modules: tuple[str, ...]
    remedy: str


@dataclass(frozen=True)
class Readiness:
    """Whether a command can run here.

    Attributes:
        command: the command, with the task if that matters.
        missing: names of the needs that are not met; empty if the command is ready.
        remedies: how to install them, without repetition.
    """

    command: str
    missing: tuple[str, ...]
    remedies: tuple[str, ...]

    @property
    def is_ready(self) -> bool:
        """Whether nothing is missing."""
        return not self.missing


def _package(name: str, remedy: str, *modules: str) -> Need:
    return Need(name, modules or (name,), remedy)


_GPU = Need("a CUDA device", (), DRIVER)
_TORCH = _package("torch", TRAIN)
_TIMM = _package("timm", TRAIN)
_EXPORT = (_TORCH, _TIMM, _package("safetensors", TRAIN), _package("onnx", TRAIN),
           _package("onnxscript", TRAIN), _package("onnx_ir", TRAIN),
           _package("onnxruntime", TRAIN))  # fmt: skip
_CUDA_PYTHON = _package("cuda-python or pycuda", GPU, "cuda.bindings", "cuda.cudart", "pycuda")
_TENSORRT = _package("tensorrt", TENSORRT)
_RUNTIME = _package(
    "tensorrt or tensorrt-rtx", TENSORRT, "tensorrt", "tensorrt_rtx", "tensorrt_rtx_bindings"
)
_ENGINE = (_RUNTIME, _CUDA_PYTHON, _GPU)
CUDA_PROVIDER = Need(
    "onnxruntime's CUDA provider",
    (),
    "pip uninstall onnxruntime; pip install onnxruntime-gpu",
)

_ON_A_JETSON = {
    DRIVER: "flash JetPack, which brings the driver",
    TENSORRT: package_line_on_a_jetson("tensorrt"),
    GPU: install_line_on_a_jetson("gpu"),
    LEAN: install_line_on_a_jetson("lean"),
    RTX: install_line_on_a_jetson("rtx"),
    CUDA_PROVIDER.remedy: package_line_on_a_jetson("onnxruntime-gpu"),
    NVML: package_line_on_a_jetson("nvidia-ml-py"),
}

NEEDS: dict[str, tuple[Need, ...]] = {
    "train": (*_EXPORT, _package("pytorch_metric_learning", TRAIN)),
    "export, demo, tune": _EXPORT,
    "check against a checkpoint": _EXPORT,
    "embed, bench with .onnx": (_package("onnxruntime", CPU), _package("onnx", CPU)),
    "embed, bench with --runtime openvino": (_package("openvino", OPENVINO),
                                             _package("onnx", OPENVINO)),
    "embed, bench with .onnx on a GPU": (_package("onnxruntime", GPU), CUDA_PROVIDER, _GPU),
    "embed to .parquet and data sets": (_package("pyarrow", "pip install pyarrow"),),
    "embed from s3:// and other URLs": (_package("fsspec", "pip install 'gsp-deploy[cloud]'"),),
    "embed --on ray": (_package("ray", "pip install 'gsp-deploy[ray]'"),),
    "build for this GPU": (_TENSORRT, _package("onnx", GPU), _CUDA_PYTHON, _GPU),
    "build for TensorRT-RTX": (
        _package("tensorrt-rtx", RTX, "tensorrt_rtx", "tensorrt_rtx_bindings"),
        _package("onnx", CPU),
    ),
    "check, embed, bench with .engine": _ENGINE,
    "embed, bench with a lean .engine": (
        _package("tensorrt-lean", LEAN, "tensorrt_lean", "tensorrt_lean_bindings"),
        _CUDA_PYTHON,
        _GPU,
    ),
    "bench --sustained, with clocks": (_package("pynvml", NVML), _GPU),
    "serve": (_package("fastapi", "pip install 'gsp-deploy[serve]'"),
              _package("uvicorn", "pip install 'gsp-deploy[serve]'")),
    "index, search, migrate-check": (_package("faiss", "pip install 'gsp-deploy[search]'"),),
    "index --to, search with Qdrant": (
        _package("qdrant_client", "pip install 'gsp-deploy[qdrant]'"),
    ),
    "index --to, search with Milvus": (_package("pymilvus", "pip install 'gsp-deploy[milvus]'"),),
    "index --to, search with pgvector": (
        _package("psycopg", "pip install 'gsp-deploy[pgvector]'"),
        _package("pgvector", "pip install 'gsp-deploy[pgvector]'"),
    ),
    "index --to, search with LanceDB": (_package("lancedb", "pip install 'gsp-deploy[lance]'"),),
}  # fmt: skip


def readiness(absent: Sequence[Need]) -> tuple[Readiness, ...]:
    """Return the state of every command; `absent` are the unmet needs that are not packages."""
    return tuple(_of(command, needs, absent) for command, needs in NEEDS.items())


def needs_beside_packages() -> tuple[Need, ...]:
    """Return the needs that are not packages: devices and providers."""
    return _GPU, CUDA_PROVIDER


def _of(command: str, needs: Sequence[Need], absent: Sequence[Need]) -> Readiness:
    missing = [need for need in needs if not _is_met(need, absent)]
    remedies = tuple(dict.fromkeys(_remedy(need) for need in missing))
    return Readiness(command, tuple(need.name for need in missing), remedies)


def _remedy(need: Need) -> str:
    """Return the line for this platform: PyPI has no GPU packages for a Jetson."""
    return _ON_A_JETSON.get(need.remedy, need.remedy) if is_jetson() else need.remedy


def _is_met(need: Need, absent: Sequence[Need]) -> bool:
    if not need.modules:
        return need not in absent
    return any(can_import(module) for module in need.modules)

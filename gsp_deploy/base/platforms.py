"""Which line installs what is missing, on the platform that this is."""

from __future__ import annotations

from pathlib import Path

# The file that NVIDIA's Linux for Tegra has, on the board and in its containers.
_RELEASE = Path("/etc/nv_tegra_release")
# PyPI has no wheels of TensorRT, TensorRT-RTX or onnxruntime-gpu for a Jetson.
_ON_A_JETSON = {
    "gpu": "JetPack brings TensorRT and CUDA (sudo apt install nvidia-jetpack); then: pip install "
    "pycuda",
    "rtx": "TensorRT-RTX is not made for a Jetson; use JetPack's TensorRT (--flavour tensorrt)",
}


def is_jetson(release: Path = _RELEASE) -> bool:
    """Whether this is a Jetson: NVIDIA's Linux for Tegra says so by a file of its own."""
    return release.is_file()


def install_line(extra: str) -> str:
    """Return the line that brings what an extra of this package brings: `cpu`, `gpu`, `rtx`..."""
    if extra in _ON_A_JETSON and is_jetson():
        return install_line_on_a_jetson(extra)
    return f"pip install 'gsp-deploy[{extra}]'"


def install_line_on_a_jetson(extra: str) -> str:
    """Return the line for `gpu` or `rtx` on a Jetson, wherever this runs."""
    return _ON_A_JETSON[extra]

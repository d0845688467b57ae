"""Which line installs what is missing, on the platform that this is."""

from __future__ import annotations

from pathlib import Path

# The file that NVIDIA's Linux for Tegra has, on the board and in its containers.
_RELEASE = Path("/etc/nv_tegra_release")
_JETPACK = "JetPack brings TensorRT and CUDA (sudo apt install nvidia-jetpack)"
# PyPI has no wheels of these for a Jetson, whether you name an extra of gsp-deploy or a package.
_EXTRAS_ON_A_JETSON = {
    "gpu": f"{_JETPACK}; then: pip install pycuda",
    "lean": "PyPI's lean runtime was not tried on a Jetson: build the engine there, with JetPack's "
    "TensorRT",
    "rtx": "TensorRT-RTX is not made for a Jetson; use JetPack's TensorRT (--flavour tensorrt)",
}
_PACKAGES_ON_A_JETSON = {
    "tensorrt": _JETPACK,
    "onnxruntime-gpu": "PyPI has no onnxruntime-gpu for a Jetson: build an engine instead",
    "onnxruntime-ep-openvino": "OpenVINO's provider is not made for a Jetson: build an engine "
    "instead",
    "onnxruntime-ep-nv-tensorrt-rtx-cu13": _EXTRAS_ON_A_JETSON["rtx"],
    "nvidia-ml-py": "a Jetson has no NVML: its clocks come from tegrastats, which JetPack brings",
}


def is_jetson(release: Path = _RELEASE) -> bool:
    """Whether this is a Jetson: NVIDIA's Linux for Tegra says so by a file of its own."""
    return release.is_file()


def install_line(extra: str) -> str:
    """Return the line that brings what an extra of this package brings: `cpu`, `gpu`, `rtx`..."""
    if extra in _EXTRAS_ON_A_JETSON and is_jetson():
        return install_line_on_a_jetson(extra)
    return f"pip install 'gsp-deploy[{extra}]'"


def package_line(package: str) -> str:
    """Return the line that brings a package of PyPI, or what a Jetson has in its place."""
    if package in _PACKAGES_ON_A_JETSON and is_jetson():
        return package_line_on_a_jetson(package)
    return f"pip install {package}"


def install_line_on_a_jetson(extra: str) -> str:
    """Return the line for the extra `gpu`, `lean` or `rtx` on a Jetson, wherever this runs."""
    return _EXTRAS_ON_A_JETSON[extra]


def package_line_on_a_jetson(package: str) -> str:
    """Return the line for a package that PyPI does not have for a Jetson, wherever this runs."""
    return _PACKAGES_ON_A_JETSON[package]

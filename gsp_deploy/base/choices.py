"""Words that settings take, beside those of models in `config` and of precisions in `precision`.

They are here and not with what they choose, so that the command line can offer them before it
imports anything heavy.
"""

from __future__ import annotations

from typing import Literal

Flavour = Literal["tensorrt", "tensorrt-rtx"]
HardwareCompatibility = Literal["none", "ampere+", "same-capability"]
# How the pooling goes into an engine's network, and into an exported file.
Pooling = Literal["unrolled", "plugin"]
PoolingForm = Literal["unrolled", "plugin", "plugin-bare"]
CalibrationMethod = Literal["min-max", "percentile", "entropy"]
CudaApi = Literal["auto", "cuda-python", "pycuda"]
# The runtime of an ONNX file.
RuntimeWord = Literal["onnxruntime", "openvino"]
# What a thread does while an engine runs.
Wait = Literal["auto", "spin", "block"]
# What is in the GPU's cache before a run that is measured.
L2State = Literal["warm", "cold"]
# What a comparison of two benchmarks holds against its limit.
GatedFigure = Literal["ratio", "latency"]
GalleryKind = Literal["flat", "hnsw", "ivf", "ivf-pq"]
# Vector servers that `index --to` fills; lance runs in the process itself.
VectorServer = Literal["qdrant", "milvus", "pgvector", "lance"]
# Where Triton runs a model.
Placement = Literal["auto", "cpu", "gpu"]
PackageFormat = Literal["bundle", "triton"]

"""Numbers that the layer, its ONNX form and its kernels must share."""

from __future__ import annotations

# Keeps Newton's division finite where every location is saturated.
SMALLEST_SLOPE = 1e-30
# The generalised mean takes no value below this.
GEM_FLOOR = 1e-6
GEM_POWER = 3.0
# The final L2 normalisation divides by no less than this.
NORM_FLOOR = 1e-12

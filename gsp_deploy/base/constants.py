"""Numerical constants that the layer, its ONNX form and its kernels share."""

from __future__ import annotations

# Newton's method divides by a slope. The slope is 0 if every location is saturated; this floor
# keeps the division finite.
SMALLEST_SLOPE = 1e-30
# The generalised mean replaces smaller values by this one: a negative number has no fractional
# power, and the root at the end has an infinite gradient at 0. GeM's usual value.
GEM_FLOOR = 1e-6
# The generalised mean's power before training: GeM's usual start.
GEM_POWER = 3.0
# The final L2 normalisation divides by at least this, as `torch.nn.functional.normalize` does.
NORM_FLOOR = 1e-12

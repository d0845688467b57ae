"""Measure engines on a GPU: stages by events, CUDA graphs, cold caches, clocks and power."""

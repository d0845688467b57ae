"""Engines: TensorRT and TensorRT-RTX plans and their manifests."""

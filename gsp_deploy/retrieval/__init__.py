"""Embeddings at work: evaluation, embedding many images, and galleries that you can search."""

"""Use embeddings: evaluate retrieval, embed many images, and search galleries."""

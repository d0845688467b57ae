"""What a GPU adds to a benchmark: stages by events, graphs, cold caches, clocks and power."""

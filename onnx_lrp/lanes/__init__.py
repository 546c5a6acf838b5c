"""Several relevance passes over one forward pass."""

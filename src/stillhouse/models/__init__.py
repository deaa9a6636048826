"""Local weights: architectures from scratch, loading, adapters, merging, generation."""

"""A small network that makes one map of all segmenters' maps."""

"""Stage 3: one head on all classifiers' bottleneck features, the segmenters' mean map, and the submission."""

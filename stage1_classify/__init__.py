"""Stage 1: classifiers give every image a probability of pneumothorax and its bottleneck features."""

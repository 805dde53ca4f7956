"""Classifiers on a timm backbone, in PyTorch."""

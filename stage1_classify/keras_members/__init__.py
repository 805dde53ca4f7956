"""Classifiers on a Keras backbone, in TensorFlow."""

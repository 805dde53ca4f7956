"""Grad-CAM: where in an image a classifier sees its pneumothorax. A package, so that no model depends on its source."""

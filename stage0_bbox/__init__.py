"""Stage 0: a Faster R-CNN finds the chest in every image."""

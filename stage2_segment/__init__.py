"""Stage 2: segmenters that draw the pneumothorax as a full-frame probability map of every image."""
